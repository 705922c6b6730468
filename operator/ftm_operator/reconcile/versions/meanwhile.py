"""Goes on with a canary, and serves a version that a user asks for, while the spec's own is not built. Pure.

A build may take hours, or fail. What serves meanwhile is looked after as if the spec still meant what serves.
"""

from dataclasses import replace

from ftm_operator.api.v1alpha1 import SERVE_VERSION_ANNOTATION
from ftm_operator.reconcile.holds import Hold
from ftm_operator.reconcile.passes import Context, Walk
from ftm_operator.reconcile.serving_children.children import owned_serving
from ftm_operator.reconcile.versions.course import choose_course
from ftm_operator.reconcile.versions.history import kept_versions
from ftm_operator.reconcile.versions.sentences import serves
from ftm_operator.reconcile.versions.stable import roll_out
from ftm_operator.resources.serving.kept_template import key_of
from ftm_operator.resources.versions.stored_version import StoredVersion
from ftm_operator.steps.serve import SERVE


def with_versions(context: Context, walk: Walk) -> Walk:
    """Returns the pass with what its versions need, if it came to no decision about them."""
    if walk.versions or walk.hold is None or walk.hold.phase == "Suspended":
        return walk
    if context.before.canary is None and SERVE_VERSION_ANNOTATION not in context.model.metadata.annotations:
        return walk
    version = _meant_before(context)
    if version is None:
        return walk
    course = choose_course(context, version)
    rolled = roll_out(context, course, SERVE)
    hold = walk.hold if course.hold is None else _also(walk.hold, course.hold)
    asked = context.model.metadata.annotations.get(SERVE_VERSION_ANNOTATION)
    said = course.said if course.canary else serves(str(asked)) if asked == course.stable.key else ""
    hold = replace(hold, message="; ".join(filter(None, (hold.message, said))))
    return replace(walk, hold=hold, effects=walk.effects + rolled.effects, versions=rolled.versions)


def _meant_before(context: Context) -> StoredVersion | None:
    """Returns the version of the canary that goes on, or the one that serves."""
    kept, canary = kept_versions(context), context.before.canary
    keys = [canary.key if canary and canary.state != "Leaving" else None, *map(key_of, owned_serving(context))]
    return next((kept[key].version for key in keys if key in kept), None)


def _also(of_walk: Hold, of_course: Hold) -> Hold:
    times = [each for each in (of_walk.retry_after, of_course.retry_after) if each is not None]
    return replace(of_walk, message=f"{of_walk.message}; {of_course.message}", retry_after=min(times, default=None))

"""Lists the versions for the status, and writes what keeps them. Pure."""

from ftm_operator.api.v1alpha1 import Version, VersionState
from ftm_operator.reconcile.passes import Apply, Context, Delete, ServedVersions
from ftm_operator.reconcile.versions.canary_children import canary_actions
from ftm_operator.reconcile.versions.course import Course
from ftm_operator.reconcile.versions.history import earlier_versions, recorded, surplus
from ftm_operator.resources.versions.stored_version import StoredVersion

MOST_ROLLED_BACK = 2
"""Versions that were rolled back and are still told of."""


def canary_writes(context: Context, course: Course) -> tuple[Apply | Delete, ...]:
    """Returns what makes the canary, after its version is kept."""
    if course.canary is None:
        return ()
    return (*recorded(context, course.canary, serves=False), *canary_actions(context, course.canary))


def history_writes(context: Context, course: Course, *, serves: bool) -> tuple[Apply | Delete, ...]:
    """Returns what keeps the version that serves, if it `serves` wholly, and the deletion of what is kept no longer."""
    if course.stable.plan.mode == "Dynamic":
        return ()
    own = recorded(context, course.stable, serves=True) if serves else ()
    return (*own, *surplus(context, _in_use(context, course)))


def served_versions(context: Context, course: Course) -> ServedVersions:
    """Returns the versions and the canary as the status tells of them."""
    if course.stable.plan.mode == "Dynamic":
        return ServedVersions(course.progress, ())
    canary, serving = course.canary, _serving(context, course)
    routed = context.model.spec.serving.gateway is not None and context.observed.http_route is not None
    listed = [_entry(context, canary, "Canary", course.weight or None)] if canary else []
    if serving:
        listed.append(_entry(context, serving, "Serving", 100 - course.weight if routed else None))
    listed += [
        _entry(context, each.version, "Kept", None)
        for each in earlier_versions(context, {each.key for each in listed})
        if each.version.key != (course.failed and course.failed.key)
    ]
    named = {each.key for each in listed}
    lost: dict[str, Version] = {}
    for each in (course.failed, *(context.before.versions or ())):
        if each and each.state == "RolledBack" and each.key not in named:
            lost.setdefault(each.key, each)
    return ServedVersions(course.progress, (*listed, *list(lost.values())[:MOST_ROLLED_BACK]))


def _serving(context: Context, course: Course) -> StoredVersion | None:
    """Returns the version that gets the requests that no canary gets: the old one while the canary's replaces it."""
    if course.canary is None or course.stable.key != course.canary.key:
        return course.stable
    return next((each.version for each in earlier_versions(context, {course.stable.key})), None)


def _in_use(context: Context, course: Course) -> set[str]:
    serving = _serving(context, course)
    return {each.key for each in (course.stable, course.canary, serving) if each}


def _entry(context: Context, version: StoredVersion, state: VersionState, weight: int | None) -> Version:
    before = {(each.key, each.state): each.since for each in context.before.versions or ()}
    return Version(
        key=version.key,
        state=state,
        weight=weight,
        uri=version.uri,
        digest=version.digest,
        generation=version.generation,
        since=before.get((version.key, state)) or context.now.replace(microsecond=0),
    )

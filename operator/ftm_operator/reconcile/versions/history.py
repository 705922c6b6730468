"""Keeps the versions that have served as ControllerRevisions, and says which there are. Pure.

The version that serves has the highest number. A canary is kept from its start on, so that it goes on while the spec
means a third version that is not built yet; its number is 0 until it has served.
"""

from dataclasses import dataclass

from ftm_operator.observe.drift import ABSENT
from ftm_operator.reconcile.passes import Apply, Context, Delete
from ftm_operator.resources.metadata import Manifest, belongs_to, owned_by
from ftm_operator.resources.versions.controller_revision import controller_revision, renumbered, stored_version
from ftm_operator.resources.versions.stored_version import StoredVersion


@dataclass(frozen=True)
class Kept:
    """A version, and the ControllerRevision that keeps it."""

    revision: Manifest
    version: StoredVersion

    @property
    def number(self) -> int:
        """Returns its place among all: the one that served last has the highest."""
        return int(self.revision.get("revision") or 0)


def kept_versions(context: Context) -> dict[str, Kept]:
    """Returns the versions that are kept, by their keys, the one that served last first."""
    own = (each for each in context.observed.revisions if belongs_to(each, context.model))
    found = [Kept(each, version) for each in own if (version := stored_version(each))]
    found.sort(key=lambda each: each.number, reverse=True)
    return {each.version.key: each for each in found}


def recorded(context: Context, version: StoredVersion, *, serves: bool) -> tuple[Apply | Delete, ...]:
    """Returns what keeps a version. The number of one that `serves` is the highest.

    What is kept cannot be changed: one with other pods, or that cannot be read, is deleted first.
    """
    kept, model = kept_versions(context), context.model
    present = kept.get(version.key)
    highest = max((each.number for each in kept.values()), default=0)
    if present is None:
        wanted = controller_revision(model, version, highest + 1 if serves else 0)
        name = wanted["metadata"]["name"]
        unread = [each for each in context.observed.revisions if each["metadata"]["name"] == name]
        return tuple(map(Delete, filter(lambda each: belongs_to(each, model), unread))) or (Apply(wanted, ABSENT),)
    if present.version.pods_hash != version.pods_hash:
        return (Delete(present.revision),)
    if serves and present.number < max(1, highest):
        return (Apply(renumbered(model, present.revision, version, highest + 1), "the version serves again"),)
    if not owned_by(present.revision, model):
        return (Apply(renumbered(model, present.revision, version, present.number), "it has no owner"),)
    return ()


def earlier_versions(context: Context, in_use: set[str]) -> list[Kept]:
    """Returns the versions that served before, as many as the spec keeps, the newest first."""
    earlier = [each for key, each in kept_versions(context).items() if key not in in_use and each.number]
    return earlier[: context.model.spec.serving.kept_versions]


def surplus(context: Context, in_use: set[str]) -> tuple[Delete, ...]:
    """Returns the deletions of canaries that never served, and of earlier versions beyond those that the spec keeps."""
    stay = in_use | {each.version.key for each in earlier_versions(context, in_use)}
    return tuple(Delete(each.revision) for key, each in kept_versions(context).items() if key not in stay)

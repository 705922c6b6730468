"""The cache keeps the newest when events, lists and answers to our own writes come in any order."""

from typing import Any

from ftm_operator.runtime.view.object_cache import ObjectCache


def pod(name: str, version: int, namespace: str = "a", **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "resourceVersion": str(version), "labels": labels}
    return {"kind": "Pod", "metadata": metadata}


def names(cache: ObjectCache, value: str) -> list[str]:
    return [item["metadata"]["name"] for item in cache.labelled("Pod", "a", "ftm.dev/name", value)]


def test_an_older_version_never_replaces_a_newer_one() -> None:
    cache = ObjectCache()
    assert cache.put("Pod", pod("p", 2))
    assert not cache.put("Pod", pod("p", 1))
    assert cache.get("Pod", ("a", "p")) == pod("p", 2)


def test_lookups_by_label_follow_a_changed_label() -> None:
    cache = ObjectCache()
    cache.put("Pod", pod("p", 1, **{"ftm.dev/name": "x"}))
    cache.put("Pod", pod("p", 2, **{"ftm.dev/name": "y"}))
    assert (names(cache, "x"), names(cache, "y")) == ([], ["p"])
    cache.remove("Pod", ("a", "p"))
    assert names(cache, "y") == []


def test_a_full_list_removes_what_is_gone_and_tells_what_was_missed() -> None:
    cache = ObjectCache()
    for item in (pod("gone", 1), pod("same", 2), pod("old", 3)):
        cache.put("Pod", item)
    missed = cache.replace("Pod", [pod("same", 2), pod("old", 9), pod("new", 8)], 10, None)
    assert sorted(item["metadata"]["name"] for item in missed) == ["gone", "new", "old"]
    assert cache.get("Pod", ("a", "gone")) is None


def test_what_was_made_after_the_list_stays() -> None:
    cache = ObjectCache()
    cache.put("Pod", pod("young", 11))
    assert cache.replace("Pod", [], 10, None) == []
    assert cache.get("Pod", ("a", "young"))


def test_the_list_of_one_namespace_says_nothing_of_another() -> None:
    cache = ObjectCache()
    cache.put("Pod", pod("p", 1, namespace="b"))
    cache.replace("Pod", [], 10, "a")
    assert cache.get("Pod", ("b", "p"))


def test_a_kind_that_is_gone_leaves_nothing_behind() -> None:
    cache = ObjectCache()
    cache.put("Pod", pod("p", 1, **{"ftm.dev/name": "x"}))
    cache.forget("Pod")
    assert (cache.keys("Pod"), names(cache, "x")) == ([], [])

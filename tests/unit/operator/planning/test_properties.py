"""Properties of the plan of every model, GPU and wish: promises that no example can prove."""

from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ftm_jobs.contract.byte_counts import MIB
from ftm_operator.planning.gpus.accelerators import AcceleratorClass, accelerator_class, declared_classes
from ftm_operator.planning.model.architecture import Architecture
from ftm_operator.planning.model.quantization import AWQ, NONE
from ftm_operator.planning.rules.layout import Layout
from ftm_operator.planning.rules.placement import Candidate, first_broken
from ftm_operator.planning.sizing.choice import size
from ftm_operator.planning.sizing.layouts import layouts
from ftm_operator.planning.sizing.outcome import NoFit, Sizing
from ftm_operator.planning.sizing.request import Correction, Request
from ftm_operator.planning.sizing.search import LEAST_CONTEXT
from tests.unit.operator.planning.catalogue import MODELS, model_of

names = st.sampled_from(sorted(MODELS))
memories = st.integers(8 * 1024, 300 * 1024)
corrections = st.builds(
    Correction,
    accelerator=st.sampled_from(["GPU", "A10G", "H100", "T4"]),
    tensor_parallel=st.sampled_from([1, 2, 4, 8]),
    pipeline_parallel=st.integers(1, 2),
    held_bytes=st.integers(-8 * 1024 * MIB, 40 * 1024 * MIB),
)
requests = st.builds(
    Request,
    context=st.one_of(st.none(), st.integers(16, 65536)),
    concurrency=st.integers(1, 16),
    scheme=st.sampled_from([None, NONE, AWQ]),
    dtype=st.sampled_from(["auto", "bfloat16", "float16"]),
    several_nodes=st.booleans(),
    corrections=st.lists(corrections, max_size=4).map(tuple),
)
places = st.sampled_from(["unknown", "A10G", "A100", "H100", "T4", "L4", "B200"])


def within(request: Request, model: Architecture) -> Request:
    return replace(request, context=request.context and min(request.context, model.max_context))


def holds_least(sizing: Sizing) -> bool:
    """Returns whether the plan holds the context that is not gone below where any layout holds it."""
    return sizing.option.context >= min(LEAST_CONTEXT, sizing.model.max_context)


def a_class(name: str, memory_mib: int, per_node: int, nodes: int) -> AcceleratorClass:
    return accelerator_class(name, memory_mib * MIB, per_node, nodes)


@settings(max_examples=150, deadline=None)
@given(names, requests, places, memories, st.integers(0, 100 * 1024), st.integers(1, 8), st.integers(1, 3))
@example("qwen1.5-72b", Request(concurrency=2, scheme=AWQ, several_nodes=False), "unknown", 10956, 3179, 7, 1)
def test_more_memory_never_makes_a_plan_impossible_nor_larger(
    name: str, request: Request, place: str, memory: int, more: int, per_node: int, nodes: int
) -> None:
    model = model_of(name)
    before = size(model, within(request, model), [a_class(place, memory, per_node, nodes)])
    larger = replace(
        a_class(place, memory, per_node, nodes),
        usable_bytes=a_class(place, memory, per_node, nodes).usable_bytes + more * MIB,
    )
    after = size(model, within(request, model), [larger])
    if isinstance(before, Sizing):
        assert isinstance(after, Sizing)
        no_larger = after.option.layout.gpus <= before.option.layout.gpus
        assert no_larger or (holds_least(after) and not holds_least(before))


@settings(max_examples=150, deadline=None)
@given(places, memories, st.integers(0, 100 * 1024))
def test_a_larger_label_never_means_less_usable_memory(place: str, memory: int, more: int) -> None:
    assert a_class(place, memory, 1, 1).usable_bytes <= a_class(place, memory + more, 1, 1).usable_bytes


@settings(max_examples=150, deadline=None)
@given(names, requests, memories, st.integers(1, 8), st.integers(1, 3), st.integers(0, 60_000), st.integers(0, 15))
def test_a_smaller_context_or_fewer_sequences_never_need_more_gpus(
    name: str, request: Request, memory: int, per_node: int, nodes: int, shorter: int, fewer: int
) -> None:
    model = model_of(name)
    asked = within(replace(request, context=request.context or 4096), model)
    assert asked.context
    place = [a_class("GPU", memory, per_node, nodes), a_class("A10G", 23028, 4, 2)]
    before = size(model, asked, place)
    less = replace(asked, context=max(1, asked.context - shorter), concurrency=max(1, asked.concurrency - fewer))
    if isinstance(before, Sizing):
        after = size(model, less, place)
        assert isinstance(after, Sizing)
        assert after.option.layout.gpus <= before.option.layout.gpus


@settings(max_examples=200, deadline=None)
@given(names, requests, memories, st.integers(1, 8), st.integers(1, 3))
def test_what_is_chosen_breaks_no_rule_and_fits(
    name: str, request: Request, memory: int, per_node: int, nodes: int
) -> None:
    model = model_of(name)
    asked = within(request, model)
    found = size(model, asked, [a_class("GPU", memory, per_node, nodes), a_class("T4", 15360, per_node, nodes)])
    if isinstance(found, NoFit):
        assert found.reason
        return
    option = found.option
    assert first_broken(Candidate(model, option.layout, option.accelerator, option.dtype, found.scheme)) is None
    assert option.memory.fits(asked.concurrency, option.context)
    assert option.context == (asked.context or option.context) <= model.max_context
    assert option.layout.gpus <= option.accelerator.per_node * option.layout.nodes
    assert option.memory.cache.tokens(option.memory.left, option.context) >= asked.concurrency * option.context


@settings(max_examples=150, deadline=None)
@given(names, requests, memories, st.integers(1, 8), st.integers(0, 40 * 1024))
def test_an_engine_that_held_more_never_gets_fewer_gpus(
    name: str, request: Request, memory: int, per_node: int, more: int
) -> None:
    model = model_of(name)
    asked = within(request, model)
    worse = tuple(replace(each, held_bytes=each.held_bytes + more * MIB) for each in asked.corrections)
    place = [a_class("GPU", memory, per_node, 1)]
    after = size(model, replace(asked, corrections=worse), place)
    if isinstance(after, Sizing):
        before = size(model, asked, place)
        assert isinstance(before, Sizing)
        no_fewer = before.option.layout.gpus <= after.option.layout.gpus
        assert no_fewer or (holds_least(before) and not holds_least(after))


@settings(max_examples=50, deadline=None)
@given(names, requests, st.permutations(["A10G", "L4", "H100", "T4"]))
def test_the_order_of_classes_that_differ_does_not_matter(name: str, request: Request, order: list[str]) -> None:
    model = model_of(name)
    classes = {each: declared_classes([{"name": each, "perNode": 4}])[0] for each in order}
    one = size(model, within(request, model), [classes[each] for each in order])
    two = size(model, within(request, model), [classes[each] for each in sorted(order)])
    assert isinstance(one, Sizing) == isinstance(two, Sizing)
    if isinstance(one, Sizing) and isinstance(two, Sizing):
        assert one.option == two.option


@pytest.mark.parametrize("name", ["deepseek-v3", "llama-3.1-405b", "jamba-v0.1"])
def test_few_layouts_are_tried_however_large_the_cluster(name: str) -> None:
    """This bounds the time of a plan: `make bench-plan` measures it."""
    model = model_of(name)
    place = a_class("H100", 81559, 8, 10_000)
    found = layouts(Candidate(model, Layout(1, 1, 1), place, "bfloat16", model.quantization), None, None, True)
    assert len(found.allowed) < 150

"""Computes next-token logits of a model of any size, with one decoder layer in memory at a time, in fp32.

    begin     the embedding turns each prompt into vectors, and the model's own forward says with what masks and
              rotary angles it would call its layers
    advance   one layer gets its weights, every prompt passes through it, the weights are dropped
    logits    the model's own forward goes on from behind the last layer: norm, output layer, caps

What stays in memory is one vector for each token of the prompts. Logits are computed for a few positions at a time,
so vocabulary × tokens never exists. Several models advance together and share what they read from disk.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import nn

from ftm_jobs.errors import Failed, Reason
from ftm_jobs.verify.figures.divergence import Divergence
from ftm_jobs.verify.models.skeleton import Skeleton
from ftm_jobs.verify.tensors.sources import SharedTensors, TensorSource

POSITIONS_AT_ONCE = 64
"""Whose logits are in memory together: 64 of 150,000 tokens are 77 MB in fp64."""

Tokens = Sequence[int]
Attach = Callable[[Skeleton, Mapping[str, nn.Module]], list[Any]]
"""Given modules in memory by name, hooks what shall happen in them; returns the hooks' handles."""
_Call = tuple[tuple[Any, ...], dict[str, Any]]


class Logits(Protocol):
    """Gives the logits whose divergence is measured."""

    @property
    def prompts(self) -> Sequence[Tokens]: ...

    def ready(self) -> Any:
        """Returns a context in which `of` may be called."""

    def of(self, prompt: int, first: int, count: int) -> torch.Tensor:
        """Returns logits of the tokens after `count` positions from `first` on: (count, vocabulary)."""


class _Recorded(Exception):
    """All layers were called."""


class LayerwiseModel:
    """Takes one model through its layers. `attach` adds to what layers compute."""

    def __init__(self, skeleton: Skeleton, source: TensorSource, attach: Attach | None = None) -> None:
        self.skeleton = skeleton
        self.source = source
        self.prompts: list[Tokens] = []
        self._attach = attach
        self._hidden: list[torch.Tensor] = []
        self._calls: list[list[_Call]] = []
        self._tuples = False

    @property
    def layers(self) -> int:
        return len(self.skeleton.layers)

    def names_of(self, layer: int) -> list[str]:
        return self.skeleton.tensors_below([self.skeleton.layer_name(layer)])

    @torch.no_grad()
    def begin(self, prompts: Sequence[Tokens]) -> None:
        self.prompts, self._hidden, self._calls = list(prompts), [], []
        with self._parts([*self.skeleton.embedding, *self.skeleton.rest]):
            size = self.skeleton.model.get_input_embeddings().num_embeddings
            for tokens in self.prompts:
                given = torch.tensor([list(tokens)], device=self.skeleton.device)
                hidden, calls = self._record(given.clamp_max(size - 1))  # a smaller vocabulary than the tokenizer's
                self._hidden.append(hidden)
                self._calls.append(calls)

    @torch.no_grad()
    def advance(self, layer: int) -> None:
        module: Any = self.skeleton.layers[layer]
        with self._parts([self.skeleton.layer_name(layer)]):
            for place, hidden in enumerate(self._hidden):
                positional, named = self._calls[place][layer]
                output = module(hidden, *positional, **named)
                self._tuples = isinstance(output, tuple)
                self._hidden[place] = output[0] if self._tuples else output
        for calls in self._calls:
            calls[layer] = ((), {})

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Holds norm and output layer in memory."""
        with self._parts([*self.skeleton.rest, *self.skeleton.head]), torch.no_grad():
            yield

    def of(self, prompt: int, first: int, count: int) -> torch.Tensor:
        hidden = self._hidden[prompt]
        positions = torch.arange(first, first + count, device=hidden.device)

        def skip(position: int) -> Callable[..., Any]:
            last = position == self.layers - 1

            def forward(given: torch.Tensor, *_: Any, **__: Any) -> Any:
                vectors = hidden if last else given
                return (vectors,) if self._tuples else vectors

            return forward

        with self._layers_do(skip):
            output = self.skeleton.model(inputs_embeds=hidden, use_cache=False, logits_to_keep=positions)
        logits: torch.Tensor = output.logits[0]
        return logits

    @contextmanager
    def whole(self) -> Iterator[Any]:
        """Gives the model with all its weights in memory."""
        layers = [self.skeleton.layer_name(layer) for layer in range(self.layers)]
        parts = [*dict.fromkeys([*self.skeleton.embedding, *self.skeleton.rest, *self.skeleton.head]), *layers]
        with self._parts(parts), torch.no_grad():
            yield self.skeleton.model

    @contextmanager
    def _parts(self, names: Sequence[str]) -> Iterator[None]:
        with self.skeleton.loaded(names, self.source):
            below = {
                name: module
                for name, module in self.skeleton.model.named_modules()
                if any(name == part or name.startswith(f"{part}.") for part in names)
            }
            handles = self._attach(self.skeleton, below) if self._attach else []
            try:
                yield
            finally:
                for handle in handles:
                    handle.remove()

    def _record(self, tokens: torch.Tensor) -> tuple[torch.Tensor, list[_Call]]:
        """Returns the vectors that enter the first layer, and the other arguments of each layer."""
        calls: list[_Call] = []
        entered: list[torch.Tensor] = []

        def note(position: int) -> Callable[..., Any]:
            def forward(*given: Any, **named: Any) -> Any:
                hidden = given[0] if given else named.pop("hidden_states")
                if entered and hidden is not entered[0]:
                    raise self._not_streamable()
                entered.append(hidden)
                calls.append((given[1:], named))
                if position == self.layers - 1:
                    raise _Recorded
                return hidden

            return forward

        try:
            with self._layers_do(note):
                self.skeleton.decoder(input_ids=tokens, use_cache=False)
        except _Recorded:
            pass
        if len(calls) != self.layers:
            raise self._not_streamable()
        return entered[0], calls

    @contextmanager
    def _layers_do(self, make: Callable[[int], Callable[..., Any]]) -> Iterator[None]:
        """Replaces each layer's forward for a while; its attributes stay."""
        layers: list[Any] = list(self.skeleton.layers)
        try:
            for position, layer in enumerate(layers):
                layer.forward = make(position)
            yield
        finally:
            for layer in layers:
                vars(layer).pop("forward", None)

    def _not_streamable(self) -> "NotStreamable":
        return NotStreamable(
            Reason.OUT_OF_MEMORY,
            f"{type(self.skeleton.model).__name__} computes between its decoder layers, so it can only be run whole",
        )


class NotStreamable(Failed):
    """The family's layers do not simply follow each other."""


class WholeLogits:
    """Computes logits with all weights in memory, for a family that cannot be streamed."""

    def __init__(self, model: LayerwiseModel, prompts: Sequence[Tokens]) -> None:
        self.prompts = list(prompts)
        self._layerwise = model
        self._model: Any = None
        self._computed: tuple[int, torch.Tensor] | None = None

    @contextmanager
    def ready(self) -> Iterator[None]:
        with self._layerwise.whole() as self._model:
            yield
        self._model = self._computed = None

    def of(self, prompt: int, first: int, count: int) -> torch.Tensor:
        if self._computed is None or self._computed[0] != prompt:
            tokens = torch.tensor([list(self.prompts[prompt])], device=self._layerwise.skeleton.device)
            self._computed = prompt, self._model(input_ids=tokens, use_cache=False).logits[0]
        return self._computed[1][first : first + count]


def compare(reference: Logits, other: Logits) -> list[Divergence]:
    """Returns the divergence of each prompt."""
    divergences = []
    with reference.ready(), other.ready():
        for number, tokens in enumerate(reference.prompts):
            measured = Divergence()
            following = torch.tensor(list(tokens[1:]))
            for first in range(0, len(tokens), POSITIONS_AT_ONCE):
                count = min(POSITIONS_AT_ONCE, len(tokens) - first)
                pair = [each.of(number, first, count).cpu() for each in (reference, other)]
                measured.add(pair[0], pair[1], following[first : first + count], number, first)
            divergences.append(measured)
    return divergences


def run(
    models: Sequence[LayerwiseModel],
    prompts: Sequence[Tokens],
    shared: SharedTensors,
    passed: Callable[[set[str]], None] = lambda names: None,  # noqa: ARG005
) -> None:
    """Runs all models through all layers, together; they read from `shared`.

    `passed` is told which tensors are done with. Raises NotStreamable.
    """
    for model in models:
        model.begin(prompts)
    for layer in range(max(model.layers for model in models)):
        shared.expect(_names(models, layer) | _names(models, layer + 1))
        for model in models:
            if layer < model.layers:
                model.advance(layer)
        shared.release(_names(models, layer))
        passed(_names(models, layer))


def _names(models: Sequence[LayerwiseModel], layer: int) -> set[str]:
    return {name for model in models if layer < model.layers for name in model.names_of(layer)}

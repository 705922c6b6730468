"""Lists the kinds of resources that users write, with what the API server is to know of each. Pure."""

from dataclasses import dataclass

from ftm_operator.api import fine_tuned_adapter, v1alpha1
from ftm_operator.api.fine_tuned_adapter import FineTunedAdapter
from ftm_operator.api.schema import Resource
from ftm_operator.api.status import FORMER_NAMES
from ftm_operator.api.v1alpha1 import GROUP, Column, FineTunedModel


@dataclass(frozen=True)
class CustomResource:
    """A kind of resource as its CustomResourceDefinition describes it."""

    model: type[Resource]
    kind: str
    plural: str
    short_names: tuple[str, ...]
    categories: tuple[str, ...]
    columns: tuple[Column, ...]
    """The columns of `kubectl get`."""
    scale: dict[str, str] | None = None
    """The fields that the scale subresource reads and writes, if there is one."""
    former_names: tuple[tuple[tuple[str, ...], str, str], ...] = ()
    """Fields of the status that had another name, as `api.status.FORMER_NAMES` lists them."""

    @property
    def name(self) -> str:
        """Returns the name of its CustomResourceDefinition."""
        return f"{self.plural}.{GROUP}"


FINE_TUNED_MODEL = CustomResource(
    FineTunedModel,
    v1alpha1.KIND,
    v1alpha1.PLURAL,
    v1alpha1.SHORT_NAMES,
    v1alpha1.CATEGORIES,
    v1alpha1.COLUMNS,
    v1alpha1.SCALE,
    FORMER_NAMES,
)
FINE_TUNED_ADAPTER = CustomResource(
    FineTunedAdapter,
    fine_tuned_adapter.KIND,
    fine_tuned_adapter.PLURAL,
    fine_tuned_adapter.SHORT_NAMES,
    fine_tuned_adapter.CATEGORIES,
    fine_tuned_adapter.COLUMNS,
)
CUSTOM_RESOURCES = (FINE_TUNED_MODEL, FINE_TUNED_ADAPTER)

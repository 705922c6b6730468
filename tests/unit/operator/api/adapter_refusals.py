"""Specs of FineTunedAdapters that are refused, with the sentence: by the models in Python, and by an API server."""

from typing import Any

REFUSED: tuple[tuple[dict[str, Any], str], ...] = (
    ({"uri": "ftp://tenants/billing"}, '"ftp://tenants/billing" is not a source; write hf://'),
    ({"uri": "pvc://claim/billing", "secretName": "s3"}, "secretName"),
    ({"model": "Shared"}, "cannot be a FineTunedModel's name; write the name of one in this namespace"),
    ({"servedName": "two words"}, "cannot be a served name; write letters, digits and . _ : / @ + -, without spaces"),
    (
        {"verification": {"prompts": [{"prompt": "a", "messages": [{"role": "user", "content": "b"}]}]}},
        "a question is asked in one way; write prompt or messages",
    ),
)
EVERYTHING: dict[str, Any] = {
    "model": "shared",
    "uri": "hf://tenant/billing@v1",
    "secretName": "tenant-hub",
    "servedName": "team/billing:v1",
    "verification": {
        "policy": "Warn",
        "prompts": [
            {"prompt": "The sky is", "expect": ["blue"]},
            {"messages": [{"role": "user", "content": "Who?"}], "expect": ["Ada"]},
        ],
    },
}

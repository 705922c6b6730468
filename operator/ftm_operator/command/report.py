"""Shows the figures of a model's verification, and brings its page: `ftm report`."""

import json

from ftm_jobs.contract.verification import Verification
from ftm_operator.api.v1alpha1 import Artifacts
from ftm_operator.command import live_status
from ftm_operator.command.options import NameArgument, NamespaceOption, OutputFormat, OutputOption
from ftm_operator.local import steps as local
from ftm_operator.local.errors import WrongUse

PAGE = "report.html"


def report(name: NameArgument, namespace: NamespaceOption = None, output: OutputOption = OutputFormat.TABLE) -> None:
    """Show how a model was verified, and bring its page here to be opened in a browser.

    The page lies in the artifact store, which is read with the environment's credentials.
    """
    built = live_status.status_of(namespace, name).artifacts or Artifacts()
    if built.verification is None or built.report is None:
        raise WrongUse(f"{name} has not been verified yet; see `kubectl describe ftm {name}`")
    if output is OutputFormat.JSON:
        print(json.dumps(built.verification.to_json(), indent=2))
        return
    print(format_verification(built.verification))
    print(f"report {built.report.uri}")
    print(f"page {local.fetch(built.report) / PAGE}")


def format_verification(verification: Verification) -> str:
    """Returns a row for each figure, beside its bound."""
    width = max((len(check.name) for check in verification.checks), default=0)
    rows = [
        f"{'ok' if check.passed else 'FAILED':<6}  {check.name:<{width}}  {check.value:>10.4g}  "
        f"bound {check.bound:>10.4g}  {check.unit}"
        for check in verification.checks
    ]
    return "\n".join(
        [*rows, "verified" if verification.passed else "not verified: nothing was rolled out under policy Block"]
    )

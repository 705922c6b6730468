"""`make cluster`: the whole system on this machine, for a person to use until Ctrl-C, which takes everything down."""

import json
import shlex
import signal
import sys
import time
from pathlib import Path

from tests.assets.facts import FACTS
from tests.cluster.kubectl import program
from tests.cluster.processes import Died
from tests.cluster.progress import say
from tests.cluster.stack import OPERATOR_NAMESPACE, RELEASE, Stack, stack
from tests.cluster.unavailable import Unavailable

MANIFEST = Path("examples", "cluster.yaml")
NAME = "support-bot"
"""The name of the FineTunedModel in MANIFEST, and of the served model."""


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        with stack() as running:
            print(instructions(running), flush=True)
            stay(running)
    except KeyboardInterrupt:
        say("everything is taken down")
    except (Unavailable, Died, RuntimeError) as error:
        say(str(error))
        return 1
    return 0


def stay(running: Stack) -> None:
    """Until Ctrl-C; a part of the cluster that dies ends it too."""
    try:
        while True:
            time.sleep(1)
            running.cluster.raise_for_dead()
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        say("taking everything down …")
        raise


def instructions(running: Stack) -> str:
    question = {"model": NAME, "messages": [{"role": "user", "content": FACTS[0].question}], "temperature": 0}
    address = f"$(kubectl get service {NAME} -o jsonpath={{.spec.clusterIP}})"
    return f"""
The cluster runs, with the operator in it and a base model and an adapter in S3. In another terminal, here:

  export KUBECONFIG={running.cluster.kubeconfig}
  export PATH={Path(program()).parent}:$PATH
  kubectl apply -f {MANIFEST}
  kubectl get finetunedmodels --watch        # Inspecting, Merging, Deploying, Ready: two minutes
  curl -s http://{address}/v1/chat/completions \\
    -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(question))}

  kubectl describe finetunedmodel {NAME}     # what it did and why
  kubectl logs -n {OPERATOR_NAMESPACE} deployment/{RELEASE} -f

Ctrl-C ends it and leaves nothing behind but logs.
"""


if __name__ == "__main__":
    sys.exit(main())

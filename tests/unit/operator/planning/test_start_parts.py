"""Where the time of a start went is read from the lines that engines have written since 0.8."""

import pytest

from ftm_operator.planning.feedback.start_parts import StartParts, start_parts

COLD = """\
2026-11-29T08:11:01.120000000Z (APIServer pid=1) INFO 11-29 08:11:01 [api_server.py:1880] vLLM API server version 0.32.0
2026-11-29T08:11:20.120000000Z (Worker_TP0 pid=93) INFO 11-29 08:11:20 [default_loader.py:502] Loading weights took \
2.87 seconds
2026-11-29T08:11:21.120000000Z (Worker_TP0 pid=93) INFO 11-29 08:11:21 [gpu_model_runner.py:5149] Model loading took \
6.75 GiB memory and 3.217000 seconds
2026-11-29T08:11:21.620000000Z (Worker_TP1 pid=94) INFO 11-29 08:11:21 [gpu_model_runner.py:5149] Model loading took \
6.81 GiB memory and 3.798000 seconds
2026-11-29T08:11:43.120000000Z (Worker_TP0 pid=93) INFO 11-29 08:11:43 [monitor.py:62] torch.compile took 21.35 s in \
total
2026-11-29T08:11:43.620000000Z (Worker_TP0 pid=93) INFO 11-29 08:11:43 [monitor.py:62] [drafter] torch.compile took \
4.10 s in total
2026-11-29T08:11:52.120000000Z (EngineCore pid=61) INFO 11-29 08:11:52 [core.py:395] init engine (profile, create kv \
cache, warmup model) took 34.21 s (compilation: 25.45 s)
2026-11-29T08:11:53.120000000Z (APIServer pid=1) INFO:     Application startup complete.
2026-11-29T08:12:53.120000000Z (APIServer pid=1) INFO prompt: 'torch.compile took 999.00 s in total'
"""
ENCODER = (
    "init engine (profile, create kv cache, warmup model) took 30.40 s "
    "(compilation: 20.20 s — language_model: 18.00 s, encoder: 2.20 s)"
)
EARLIER = """\
INFO 08-30 05:01:55 [default_loader.py:262] Loading weights took 2.41 seconds
INFO 08-30 05:01:58 [gpu_model_runner.py:2007] Model loading took 14.2488 GiB and 4.531250 seconds
INFO 08-30 05:02:20 [backends.py:215] Compiling a graph for dynamic shape takes 17.02 s
INFO 08-30 05:02:21 [monitor.py:34] torch.compile takes 22.52 s in total
INFO 08-30 05:02:45 [core.py:214] init engine (profile, create kv cache, warmup model) took 46.60 seconds
"""
ON_A_CPU = """\
INFO 11-29 08:11:20 [default_loader.py:502] Loading weights took 2.87 seconds
INFO 11-29 08:11:52 [core.py:402] init engine (profile, create kv cache, warmup model) took 9.49 s
"""
LLAMA_SERVER = """\
2026-11-29T08:11:01.120000000Z main: build = 1 (unknown) with GNU 12.2.0
2026-11-29T08:11:01.320000000Z srv    load_model: loading model '/model/model.gguf'
2026-11-29T08:11:13.120000000Z srv  llama_server: model loaded
2026-11-29T08:11:13.120100000Z srv  llama_server: server is listening on http://0.0.0.0:8000
"""


@pytest.mark.parametrize(
    ("log", "load", "compiled", "warm_up"),
    [
        (COLD, 4, 25, 9),
        (ENCODER, None, 20, 10),
        (EARLIER, 5, 23, 24),
        (ON_A_CPU, 3, None, 9),
        (LLAMA_SERVER, 12, None, None),
    ],
)
def test_the_parts_of_a_start_are_read(log: str, load: int | None, compiled: int | None, warm_up: int | None) -> None:
    assert start_parts(log) == StartParts(load, compiled, warm_up)


@pytest.mark.parametrize(
    "log",
    [
        "",
        "Application startup complete\nLoading weights took 2.87 seconds",
        LLAMA_SERVER.partition("\n2026-11-29T08:11:13")[0],
        "yesterday-evening-late x loading model 'm'\nyesterday-evening-late x model loaded",
        "2026-11-29T08:11:01.120000000Z x loading model 'm'\n2026-11-29T08:11:13.120000 x model loaded",
    ],
)
def test_a_log_that_does_not_say_it_has_no_parts(log: str) -> None:
    assert start_parts(log) is None

"""`torc plan --learn`, as people type it."""

from __future__ import annotations

from tests.cli.conftest import EMBEDDED
from tests.support.program import Program

SPEC = """
name: study
resource_requirements: [{{name: large, num_cpus: 1, memory: 1g, runtime: PT4H}}]
jobs:
  - {{name: 'fit_{{i}}', command: 'sh fit.sh {{i}}', resource_requirements: large, parameters: {{i: '{range}'}}}}
  - {{name: report, command: 'sh report.sh', resource_requirements: large}}
"""


@EMBEDDED
def test_a_new_study_asks_for_what_the_last_one_used(program: Program) -> None:
    program.write("fit.sh", "exit 0\n")
    program.write("report.sh", "exit 0\n")
    program("run", program.write("first.yaml", SPEC.format(range="1:5")), "-q")
    second = program.write("second.yaml", SPEC.format(range="6:20"))
    shown = program("plan", second, "--learn", "-o", "learnt.yaml")
    assert "learnt from the 6 latest attempts" in shown.stdout and "1 GiB -> 64 MiB" in shown.stdout, shown.stdout
    assert "too little is known of report" in shown.stderr
    plan = program("plan", "learnt.yaml", "-f", "json").json
    assert plan["stages"][0]["classes"] == {"large_fit": 15, "large": 1}
    assert "already exists" in program("plan", second, "--learn", "-o", "learnt.yaml", code=4).stderr
    told = program("plan", second, "--learn", "-f", "json").json
    assert told["unknown"] == ["report"] and told["classes"][0]["num_samples"] == 5
    assert "needs --learn" in program("plan", second, "-o", "x.yaml", code=2).stderr
    program("run", "learnt.yaml", "-q")

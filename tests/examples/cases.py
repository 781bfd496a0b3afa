"""The table of examples: how many jobs end how, and what each must have left behind."""

from __future__ import annotations

import json
import xml.etree.ElementTree
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torc.spec.formats import Format

EXAMPLES = Path(__file__).parents[2] / "examples"
SUFFIXES = [format.suffixes[0] for format in Format]


@dataclass(frozen=True)
class Case:
    """What one example does. `look` is given the folder it ran in, and raises when something is wrong."""

    path: str
    counts: dict[str, int]
    options: tuple[str, ...] = ()
    look: Callable[[Path], None] = lambda folder: None
    most_runs: int = 1  # so often it may be interrupted, and go on

    @property
    def exit_code(self) -> int:
        """Return the exit code of `torc run`: 1 when the example is meant to fail."""
        return 0 if set(self.counts) == {"completed"} else 1


def text(folder: Path, path: str) -> str:
    """Read what an example wrote."""
    return (folder / "example_output" / path).read_text(encoding="utf-8")


def lines(folder: Path, path: str) -> list[str]:
    """Read the lines that an example wrote."""
    return text(folder, path).splitlines()


def _diamond(folder: Path) -> None:
    report = text(folder, "diamond/report.txt")
    assert "10 the" in report
    assert "20 o" in report


def _sweep_product(folder: Path) -> None:
    best = text(folder, "sweep_product/best.txt")
    losses = [
        float(path.read_text().split()[0]) for path in (folder / "example_output/sweep_product").glob("rate_*.txt")
    ]
    assert len(losses) == 12
    assert float(best.split()[0]) == min(losses)


def _slurm_staged(folder: Path) -> None:
    assert lines(folder, "slurm_staged/report.txt") == [f"{model} {model * 5050}" for model in range(1, 9)]


def _more_memory(folder: Path) -> None:
    sizes = {path.stem: path.read_text() for path in (folder / "example_output/more_memory").glob("*.txt")}
    assert sizes == {str(size): str(size << 20) for size in (1, 2, 4, 120)}


def _sweep_zip(folder: Path) -> None:
    table = dict(line.split(" ", 1) for line in lines(folder, "sweep_zip/table.txt"))
    assert set(table) == {"tromso", "lisbon", "quito"}
    assert table["tromso"].split()[1::2] == ["24.0", "0.0"]  # midsummer and midwinter beyond the polar circle


def _sweep_gather(folder: Path) -> None:
    rows = [line.split() for line in lines(folder, "sweep_gather/table.txt")[1:]]
    assert [row[0] for row in rows] == ["100", "400", "1600", "6400"]
    for _, measured, expected in rows:
        assert abs(float(measured) / float(expected) - 1) < 0.2


def _user_data(folder: Path) -> None:
    minimum = json.loads(text(folder, "user_data/minimum.json"))
    assert minimum["data"] == {"x": 2.2, "value": -6.518}


def _actions(folder: Path) -> None:
    diary = lines(folder, "actions/diary.txt")
    assert diary[0] == "workflow starts"
    assert sorted(diary) == sorted(
        ["workflow starts", "a worker starts", "all simulations are over", "analyze can start", "analyze"]
        + ["a worker leaves", "workflow is over"]
        + [f"simulate {number}" for number in range(1, 5)]
    )
    assert diary.index("all simulations are over") > max(diary.index(f"simulate {number}") for number in range(1, 5))
    assert diary.index("workflow is over") > diary.index("analyze")


def _priorities(folder: Path) -> None:
    order = lines(folder, "priorities/order.txt")
    assert order == ["prepare", "long_pole", "soon_1", "soon_2", "whenever_1", "whenever_2", "whenever_3"]


def _retry(folder: Path) -> None:
    assert text(folder, "retry/step.txt") == "2\n"
    assert len(lines(folder, "retry/asked.txt")) == 3
    assert text(folder, "retry/solution.txt") == "converged with step 2\n"


def _failure(folder: Path) -> None:
    assert text(folder, "failure/clean_up.txt") == "cleaned\n"


def _limits(folder: Path) -> None:
    assert text(folder, "limits/checkpoint.txt").startswith("saved at step ")


def _checkpoint(folder: Path) -> None:
    begun = [int(line.split()[-1]) for line in lines(folder, "checkpoint/attempts.txt")]
    assert begun[0] == 0
    assert len(begun) > 1 and begun == sorted(begun)
    assert text(folder, "checkpoint/result.txt") == "276\n", "no step was lost or made twice"


def _regexes(folder: Path) -> None:
    assert len(lines(folder, "regexes/summary_north.csv")) == 12


def _environment(folder: Path) -> None:
    assert text(folder, "environment/verbose.txt") == "level debug in example_output/environment\n"
    assert text(folder, "environment/activated.txt") == "solver fast, level info\n"


def _parameter_files(folder: Path) -> None:
    report = lines(folder, "parameter_files/report.de")
    assert report == [
        "# bending moment in kNm (de)",
        "mill_bridge 351.6",
        "rail_bridge 7425.6",
        "river_bridge 4727.8",
    ]
    assert len(list((folder / "example_output/parameter_files").glob("report.*"))) == 3


def _parameter_study(folder: Path) -> None:
    table = lines(folder, "parameter_study/table.csv")
    assert len(table) == 1 + 77
    assert table[1].startswith("2,0.15,")
    picture = xml.etree.ElementTree.parse(folder / "example_output/parameter_study/study.svg")
    assert len(picture.findall("{http://www.w3.org/2000/svg}circle")) == 400


def _monte_carlo_pi(folder: Path) -> None:
    mean, _, error = text(folder, "monte_carlo_pi/estimate.txt").split()
    assert abs(float(mean) - 3.14159) < 5 * float(error) < 0.1


def _map_reduce(folder: Path) -> None:
    totals = {word: int(count) for count, word in map(str.split, lines(folder, "map_reduce/totals.txt"))}
    assert totals == {"sea": 750, "whale": 300, "wind": 903, "ship": 147}


def _mandelbrot(folder: Path) -> None:
    header, *rows = lines(folder, "mandelbrot/mandelbrot.pgm")
    assert header == "P2 160 160 255"
    assert len(rows) == 160
    assert all(len(row.split()) == 160 for row in rows)


def _sequences(folder: Path) -> None:
    rows = [line.split("\t") for line in lines(folder, "sequences/report.tsv")]
    assert len(rows) == 5
    assert all(0.4 < float(content) < 0.6 for _, content in rows)


def _log_analysis(folder: Path) -> None:
    report = lines(folder, "log_analysis/report.txt")
    assert len(report) == 8
    assert report[0].startswith("day 1: 200 ")
    assert report[7].startswith("published on ")


def _none(folder: Path) -> None:
    assert not (folder / "example_output").exists()


def _barrier(folder: Path) -> None:
    assert len(list((folder / "example_output/barrier").iterdir())) == 60


CASES = [
    Case("yaml/hello.yaml", {"completed": 2}, look=_none),
    Case("yaml/diamond.yaml", {"completed": 4}, look=_diamond),
    Case("yaml/many_jobs.yaml", {"completed": 500}, look=_none),
    Case("yaml/sweep_product.yaml", {"completed": 13}, look=_sweep_product),
    Case("yaml/sweep_zip.yaml", {"completed": 4}, look=_sweep_zip),
    Case("yaml/sweep_gather.yaml", {"completed": 29}, look=_sweep_gather),
    Case("yaml/parameter_files.yaml", {"completed": 6}, look=_parameter_files),
    Case("yaml/barrier.yaml", {"completed": 120}, look=_barrier),
    Case("yaml/regexes.yaml", {"completed": 8}, look=_regexes),
    Case("yaml/user_data.yaml", {"completed": 2}, look=_user_data),
    Case("yaml/environment.yaml", {"completed": 4}, look=_environment),
    Case("yaml/actions.yaml", {"completed": 5}, look=_actions),
    Case("yaml/priorities.yaml", {"completed": 7}, ("--max-parallel-jobs", "1"), _priorities),
    Case("yaml/mixed_resources.yaml", {"completed": 17}, ("--num-cpus", "4", "--memory", "2g")),
    Case("yaml/retry.yaml", {"completed": 4}, look=_retry),
    Case("yaml/failure.yaml", {"completed": 3, "failed": 1, "canceled": 2}, look=_failure),
    Case("yaml/more_memory.yaml", {"completed": 4}, look=_more_memory),
    Case("yaml/failures.yaml", {"completed": 1, "failed": 12, "terminated": 2}),
    Case("yaml/recover.yaml", {"completed": 2, "terminated": 3, "canceled": 1}),
    Case("yaml/limits.yaml", {"completed": 1, "terminated": 2}, look=_limits),
    Case("yaml/checkpoint.yaml", {"completed": 2}, look=_checkpoint, most_runs=15),
    Case("yaml/parameter_study.yaml", {"completed": 80}, look=_parameter_study),
    Case(
        "yaml/slurm_staged.yaml",
        {"completed": 10},
        ("--num-gpus", "2", "--num-cpus", "4", "--memory", "2g"),
        _slurm_staged,
    ),
    Case("json/monte_carlo_pi.json", {"completed": 21}, look=_monte_carlo_pi),
    Case("json/map_reduce.json", {"completed": 8}, look=_map_reduce),
    Case("json5/mandelbrot.json5", {"completed": 17}, look=_mandelbrot),
    Case("kdl/sequences.kdl", {"completed": 12}, look=_sequences),
    Case("kdl/log_analysis_kdl1.kdl", {"completed": 9}, look=_log_analysis),
]

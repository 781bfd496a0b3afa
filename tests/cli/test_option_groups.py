from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer
from typer.testing import CliRunner

from torc.cli.options.groups import grouped

Size = Annotated[int, typer.Option("--size", help="How large.")]
Color = Annotated[list[str] | None, typer.Option("--color", help="Which; repeat.")]


@dataclass(frozen=True)
class Look:
    size: Size = 3
    color: Color = None


def test_options_of_a_group_stand_in_its_place_and_reach_the_command_as_one_value() -> None:
    given: list[object] = []
    app = typer.Typer()

    @app.command()
    @grouped
    def paint(
        what: Annotated[str, typer.Argument()], look: Look = Look(), dry: Annotated[bool, typer.Option("--dry")] = False
    ) -> None:
        """Paint something."""
        given.extend([what, look, dry])

    runner = CliRunner()
    assert runner.invoke(app, ["house", "--color", "red", "--dry", "--color", "blue"]).exit_code == 0
    assert given == ["house", Look(3, ["red", "blue"]), True]
    told = runner.invoke(app, ["--help"]).output
    assert told.index("--size") < told.index("--color") < told.index("--dry")

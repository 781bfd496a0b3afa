"""`torc completion`: what the shell may offer behind a half-written command line.

The scripts of the shells hand over the words; this answers with lines "VALUE<tab>what it is", and ":files" where files fit.
It loads no more than the words need: commands are offered from the table alone.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from torc.display_text import visible_line
from torc.errors import Invalid, TorcError

FILES = ":files"
_MOST_WORKFLOWS = 200
Offer = tuple[str, str]


class Shell(StrEnum):
    """The shells that there is a script for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


SCRIPTS = {
    Shell.BASH: r"""# bash completion of torc: written by `torc completion bash`
_torc() {
    local cur=${COMP_WORDS[COMP_CWORD]} value help
    [ "$cur" = "=" ] && cur=""
    COMPREPLY=()
    while IFS=$'\t' read -r value help; do
        if [ "$value" = ":files" ]; then
            compopt -o filenames 2>/dev/null
            while IFS= read -r value; do COMPREPLY+=("$value"); done < <(compgen -f -- "$cur")
        else
            COMPREPLY+=("$(printf %q "$value")")
        fi
    done < <("${COMP_WORDS[0]}" completion --complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _torc torc
""",
    Shell.ZSH: r"""#compdef torc
# zsh completion of torc: written by `torc completion zsh`
_torc() {
    local -a offers
    local value help with_files=0
    while IFS=$'\t' read -r value help; do
        if [[ $value == ":files" ]]; then with_files=1
        else offers+=("${value//:/\\:}${help:+:$help}")
        fi
    done < <("${words[1]}" completion --complete "${(@)words[2,CURRENT]}" 2>/dev/null)
    (( with_files )) && _files
    (( ${#offers} )) && _describe -V torc offers
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _torc "$@"; else compdef _torc torc; fi
""",
    Shell.FISH: r"""# fish completion of torc: written by `torc completion fish`
function __torc_complete
    set -l words (commandline -opc) (commandline -ct)
    for line in ($words[1] completion --complete $words[2..-1] 2>/dev/null)
        if test "$line" = ":files"
            __fish_complete_path (commandline -ct)
        else
            echo $line
        end
    end
end
complete -c torc -f -a "(__torc_complete)"
""",
}


def completion(
    shell: Annotated[Shell, typer.Argument(help="bash, zsh or fish.")],
    install: Annotated[bool, typer.Option("--install", help="Write the script where the shell looks for it.")] = False,
) -> None:
    """Print a script with which your shell completes commands, options, workflows and files.

    Example: torc completion bash --install
    """
    if not install:
        print(SCRIPTS[shell], end="")
        return
    path, then = _place(shell, os.environ)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SCRIPTS[shell], encoding="utf-8")
    except OSError as error:
        raise Invalid(
            f"cannot write {path}: {error.strerror}", hint=f"`torc completion {shell.value}` prints the script"
        ) from None
    print(f"wrote {path}\n{then}")


def _place(shell: Shell, environ: Mapping[str, str]) -> tuple[Path, str]:
    home = Path(environ.get("HOME") or Path.home())
    match shell:
        case Shell.BASH:
            data = Path(environ.get("XDG_DATA_HOME") or home / ".local/share")
            folder = data / "bash-completion/completions"
            return (
                folder / "torc",
                f"a new bash finds it by the package bash-completion; else: source {folder / 'torc'}",
            )
        case Shell.ZSH:
            return (
                home / ".zfunc/_torc",
                "in ~/.zshrc, if it is not there: fpath+=~/.zfunc; autoload -Uz compinit; compinit",
            )
        case Shell.FISH:
            config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
            return config / "fish/completions/torc.fish", "a new fish finds it"


def print_offers(words: list[str]) -> None:
    """Answer a shell: nothing rather than an error."""
    with contextlib.suppress(Exception):
        for value, text in offers(words):
            if visible_line(value) == value:  # a shell would insert what else there is
                print(f"{value}\t{' '.join(text.split())}" if text else value)


def offers(words: list[str]) -> list[Offer]:
    """Return what may stand for the last word, which is half-written. `words`: what follows `torc`."""
    from torc.cli.main import COMMANDS
    from torc.cli.session import OPTIONS

    *before, current = _joined(words) or [""]
    if before and before[-1] in {*OPTIONS, "-f"} and before[:2] != ["jobs", "logs"]:
        return _starting(_global_values(before[-1]), current)
    if current.startswith("--") and "=" in current:
        return []
    before = _without_globals(before)
    if not before:
        if current.startswith("-"):
            return _starting(_global_options(), current)
        return _starting([(name, text) for name, (_, text) in COMMANDS.items()], current)
    return _starting(_within(before, current), current)


def _starting(found: list[Offer], current: str) -> list[Offer]:
    return [offer for offer in found if offer[0] == FILES or offer[0].startswith(current)]


def _joined(words: list[str]) -> list[str]:
    """Undo what bash does to `--option=value`: three words."""
    made: list[str] = []
    for word in words:
        if word == "=" and made and made[-1].startswith("--"):
            made.append("")
        elif made and not made[-1] and len(made) > 1 and made[-2].startswith("--"):
            made[-1] = word
        else:
            made.append(word)
    return made


def _without_globals(words: list[str]) -> list[str]:
    from torc.cli.session import OPTIONS

    rest: list[str] = []
    waiting = iter(words)
    for word in waiting:
        if word in OPTIONS or (word == "-f" and rest[:2] != ["jobs", "logs"]):
            next(waiting, None)
        elif word != "--no-color" and word.partition("=")[0] not in OPTIONS:
            rest.append(word)
    return rest


def _global_options() -> list[Offer]:
    from torc.cli.app import GLOBAL_HELP

    return [
        (word.strip(), text) for names, text in GLOBAL_HELP for word in names.split(" ")[0:2] if word.startswith("-")
    ]


def _global_values(option: str) -> list[Offer]:
    from torc.cli.settings import FORMATS, LOG_LEVELS

    if option == "--log-level":
        return [(level, "") for level in LOG_LEVELS]
    if option in {"-f", "--format"}:
        return [(form, "") for form in FORMATS]
    return [(FILES, "")] if option == "--db" else []


def _within(before: list[str], current: str) -> list[Offer]:
    """Offer what fits into a command whose first words are known."""
    from torc.cli.app import click
    from torc.cli.main import COMMANDS, command_group

    if before[0] not in COMMANDS:
        return []
    with contextlib.suppress(click().exceptions.ClickException):
        command, at = command_group().get_command(None, before[0]), 1
        if hasattr(command, "commands"):
            if len(before) == 1:
                return [(name, _line(child.help)) for name, child in command.commands.items()]
            command, at = command.commands.get(before[1]), 2
        return [] if command is None else _arguments(command, before[at:], current)
    return []


def _arguments(command: Any, words: list[str], current: str) -> list[Offer]:
    from torc.cli.app import parameter_help, parameters

    options = {name: item for item in parameters(command, "option") for name in (*item.opts, *item.secondary_opts)}
    num_positional, waiting = 0, iter(words)
    for word in waiting:
        option = options.get(word)
        if option is None:
            num_positional += not word.startswith("-") or word == "-"
        elif not option.is_flag and next(waiting, None) is None:
            return _values(option)
    if current.startswith("-"):
        return [(name, parameter_help(item)) for name, item in options.items() if name not in words] + [
            offer for offer in _global_options() if offer[0].startswith("--")
        ]
    arguments = parameters(command, "argument")
    if num_positional < len(arguments):
        return _values(arguments[num_positional])
    return _values(arguments[-1]) if arguments and arguments[-1].nargs == -1 else []


def _values(parameter: Any) -> list[Offer]:
    """Offer values of an option or an argument."""
    from torc.cli.app import choices, value_type

    name = str(parameter.metavar or parameter.name).upper()
    found: list[Offer] = [(choice, "") for choice in choices(parameter)]
    if name == "KEY":
        from torc.cli.settings import SETTINGS

        found += [(key, setting.text) for key, setting in SETTINGS.items()]
    if value_type(parameter) is Path or any(part in name for part in ("SPEC", "PATH", "FILE", "OUTPUT")):
        found.append((FILES, ""))
    if "WORKFLOW" in name or "_OR_ID" in name:
        with contextlib.suppress(TorcError):
            found += _workflows()
    return found


def _workflows() -> list[Offer]:
    from torc.api.workflows import ListWorkflows
    from torc.cli.connection import torc
    from torc.cli.session import SESSION

    SESSION.load()
    with torc(create=False) as opened:
        found = opened.send(ListWorkflows(limit=_MOST_WORKFLOWS)).items
    names = dict.fromkeys(workflow.name for workflow in found)
    return [
        *((str(workflow.id), f"{workflow.name} ({workflow.state})") for workflow in found),
        *((name, "workflow") for name in names),
    ]


def _line(text: str | None) -> str:
    return " ".join((text or "").partition("Example:")[0].split()).partition(". ")[0].rstrip(".")

"""The `sh` scripts that run on remote machines, and how their output is parsed. Nothing here opens connections.

A worker has a state folder there, `~/.local/state/torc/workers/KEY`, with `process` (start name, pid, start time of the process in
clock ticks since boot, boot id), `exit` (start name, exit code), `output` and `log` (paths). The pid refers to the worker only as
long as boot id and ticks match.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_FAR = r"""
state=${XDG_STATE_HOME:-$HOME/.local/state}/torc/workers/$key
tell() { printf '%s %s\n' "$1" "$2"; }
trouble() { tell trouble "$1"; tell about "$2"; exit 3; }
ticks_of() {
    { IFS= read -r stat < "/proc/$1/stat"; } 2>/dev/null || return 1
    set -- ${stat##*') '}
    case $1 in Z | X) return 1 ;; esac
    ticks=${20}
}
read_process() {
    { read -r start pid began boot < "$state/process"; } 2>/dev/null || return 1
    case $pid in '' | *[!0-9]*) return 1 ;; esac
}
is_alive() {
    read -r now < /proc/sys/kernel/random/boot_id
    [ "$boot" = "$now" ] && ticks_of "$pid" && [ "$ticks" = "$began" ]
}
has_ended() {
    ended= code=
    { read -r ended code < "$state/exit"; } 2>/dev/null
    [ "$ended" = "$start" ]
}
describe() {
    tell start "$start"
    tell pid "$pid"
    if is_alive; then tell alive yes; else
        tell alive no
        tries=0
        until has_ended || [ "$tries" -ge 10 ]; do # the code is written down a moment after the end
            tries=$((tries + 1))
            sleep 0.05
        done
        if has_ended; then tell code "$code"; fi
    fi
    for name in output log; do
        { IFS= read -r found < "$state/$name"; } 2>/dev/null && tell "$name" "$found"
    done
    if ! is_alive; then
        echo tail
        tail -c 4000 "$found" 2>/dev/null
    fi
}
"""

_FIND = r"""
unset TORC_API_URL TORC_DB TORC_TOKEN TORC_TOKEN_FILE
tilde() { case $1 in '~') path=$HOME ;; '~/'*) path=$HOME/${1#'~/'} ;; *) path=$1 ;; esac; }
for needed in setsid flock tail; do
    command -v "$needed" >/dev/null || trouble no_tool "$needed"
done
[ -r /proc/self/stat ] || trouble no_tool /proc
case $program in
    '') program=$(command -v torc) || program=$HOME/.local/bin/torc ;;
    '~/'* | /*) tilde "$program"; program=$path ;;
    */*) program=$PWD/$program ;;
    *) program=$(command -v "$program") || trouble no_torc "$named" ;;
esac
[ -f "$program" ] && [ -x "$program" ] || trouble no_torc "$program"
tilde "$directory"
cd "$path" 2>/dev/null || trouble no_directory "$directory"
directory=$PWD
"""

#: the CA certificate of the server, which the remote machine does not have
_AUTHORITY = r"""
(umask 077 && mkdir -p -- "$state") 2>/dev/null || trouble no_state "$state"
printf '%s' "$authority" > "$state/ca.pem.$$" && mv -f "$state/ca.pem.$$" "$state/ca.pem" || trouble no_state "$state"
export TORC_CA_FILE="$state/ca.pem"
"""

_CHECK = r"""
version=$("$program" --version 2>&1 </dev/null) || trouble broken_torc "$version"
tell program "$program"
tell version "$version"
tell directory "$directory"
if read_process && is_alive; then tell alive yes; tell pid "$pid"; tell start "$start"; fi
echo workflow
"$program" workflows get "$workflow" -f json </dev/null 2>&1
"""

#: replaces itself by the runner with `exec`, after it has recorded its own process
_BECOME = r"""
state=$1 start=$2
shift 2
IFS= read -r stat < "/proc/$$/stat"
rest=${stat##*') '}
ticks=$(printf '%s\n' "$rest" | cut -d ' ' -f 20)
read -r boot < /proc/sys/kernel/random/boot_id
printf '%s %s %s %s\n' "$start" "$$" "$ticks" "$boot" > "$state/process.new" || exit 125
mv -f "$state/process.new" "$state/process" || exit 125
exec "$@"
"""

#: stays next to the runner, in its own session, to record its exit code
_BESIDE = r"""
become=$1 state=$2 start=$3
shift
sh -c "$become" sh "$@"
code=$?
printf '%s %s\n' "$start" "$code" > "$state/exit.new" && mv -f "$state/exit.new" "$state/exit"
"""

_START = r"""
tilde "$output"
output=$path
(umask 077 && mkdir -p -- "$output") 2>/dev/null && output=$(cd "$output" && pwd) && [ -w "$output" ] || trouble no_output "$output"
(umask 077 && mkdir -p -- "$state") 2>/dev/null && [ -w "$state" ] || trouble no_state "$state"
exec 9> "$state/lock"
flock -n 9 || trouble busy "$state"
if read_process && is_alive; then tell again yes; describe; exit; fi
log=$output/$log_name
mask=$(umask)
umask 077
set -C # made anew, or a file of our own to go on with: others may write to the folder
if ! { command exec 8> "$log"; } 2>/dev/null; then
    [ -f "$log" ] && [ ! -L "$log" ] && [ -O "$log" ] || trouble no_output "$log"
    exec 8>> "$log"
fi
set +C
umask "$mask"
printf '%s\n' "$output" > "$state/output" && printf '%s\n' "$log" > "$state/log" || trouble no_state "$state"
setsid sh -c "$beside" sh "$become" "$state" "$new" "$program" "$@" \
    --output-dir "$output" --directory "$directory" </dev/null >&8 2>&1 8>&- 9>&- &
tries=0
until read_process && [ "$start" = "$new" ]; do
    tries=$((tries + 1))
    [ "$tries" -le 200 ] || trouble no_start "$(tail -c 1000 "$log")"
    sleep 0.05
done
describe
"""

_STATUS = r"""
read_process || { tell alive never; exit; }
describe
"""

_STOP = r"""
read_process || { tell alive never; exit; }
if is_alive; then
    kill -TERM "$pid" || trouble not_yours "$pid"
    how=term left=$((grace * 20))
    while is_alive && [ "$left" -gt 0 ]; do
        left=$((left - 1))
        sleep 0.05
    done
    if is_alive; then
        how=kill left=200
        kill -KILL "$pid"
        while is_alive && [ "$left" -gt 0 ]; do
            left=$((left - 1))
            sleep 0.05
        done
    fi
    tell how "$how"
fi
describe
"""

#: lists names and sizes of one workflow's files in the output folder; times in nanoseconds are exact
_LIST = r"""
read_process || { tell alive never; exit; }
{ IFS= read -r output < "$state/output"; } 2>/dev/null || { tell alive never; exit; }
cd "$output" 2>/dev/null || trouble no_output "$output"
tell output "$output"
echo files
find . -type f -path "$pattern" -printf '%s %T@ %P\0'
"""

_SEND = r"""
cd "$output" 2>/dev/null || trouble no_output "$output"
printf '%s\0' "$@" | tar --create --format=pax --file=- --no-recursion --null --ignore-failed-read -T -
"""


@dataclass(frozen=True, slots=True)
class ScriptReply:
    """The output of a script: lines with a name and a value, and everything after the last name."""

    values: Mapping[str, str]
    rest: bytes

    def get(self, name: str) -> str | None:
        """Return a value, or None."""
        return self.values.get(name)


#: names without a value: everything that follows belongs to them
_LAST = (b"tail", b"workflow", b"files")


def read(output: bytes) -> ScriptReply:
    """Parse the output of a script; other lines are skipped."""
    values: dict[str, str] = {}
    while output:
        line, _, output = output.partition(b"\n")
        if line in _LAST:
            break
        name, space, value = line.partition(b" ")
        if space:
            values[name.decode(errors="replace")] = value.decode(errors="surrogateescape")
    return ScriptReply(values, output)


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """How workers reach the store: its display name, environment variables (may hold secrets), and its CA certificate."""

    name: str
    variables: Mapping[str, str]
    authority: str | None = None  # PEM


def check(key: str, program: str | None, directory: str, workflow_id: int, store: StoreAddress) -> str:
    """Return the script that checks whether a worker could start: which Torc is there, and whether it reaches this workflow."""
    given = _set(key=key, program=program or "", named=program or "torc", directory=directory, workflow=workflow_id)
    return given + _FAR + _FIND + _exported(store) + _CHECK


@dataclass(frozen=True, slots=True)
class WorkerStart:
    """A start of a worker: `words` are the program's arguments; `start` is a unique name of this start."""

    key: str
    start: str
    program: str
    directory: str
    output_dir: str
    log_name: str
    words: Sequence[str]


def start(begin: WorkerStart, store: StoreAddress) -> str:
    """Return the script that starts a worker which outlives the connection."""
    given = _set(
        key=begin.key,
        program=begin.program,
        named=begin.program,
        directory=begin.directory,
        output=begin.output_dir,
        log_name=begin.log_name,
        new=begin.start,
        become=_BECOME,
        beside=_BESIDE,
    )
    return given + _FAR + _FIND + _exported(store) + _words(begin.words) + _START


def status(key: str) -> str:
    """Return the script that reports the state of a worker."""
    return _set(key=key) + _FAR + _STATUS


def stop(key: str, grace_seconds: int) -> str:
    """Return the script that stops a worker: SIGTERM, then SIGKILL after a grace period."""
    return _set(key=key, grace=grace_seconds) + _FAR + _STOP


def list_logs(key: str, workflow_id: int) -> str:
    """Return the script that lists the logs of a worker."""
    return _set(key=key, pattern=f"*_wf{workflow_id}_*") + _FAR + _LIST


def send_logs(output: str, names: Sequence[str]) -> str:
    """Return the script that sends files of a folder as an archive; names are relative to the folder."""
    return _set(key="", output=output) + _FAR + _words([f"./{name}" for name in names]) + _SEND


def _set(**values: str | int) -> str:
    return "".join(f"{name}={shlex.quote(str(value))}\n" for name, value in values.items())


def _exported(store: StoreAddress) -> str:
    given = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in store.variables.items())
    return given if store.authority is None else given + _set(authority=store.authority) + _AUTHORITY


def _words(words: Sequence[str]) -> str:
    return f"set -- {shlex.join(words)}\n"

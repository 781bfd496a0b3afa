"""The small process that starts the jobs of one runner, waits for them, and reports the kernel's accounting. A separate program.

It is small because on Linux a process starts with the peak memory of its parent, and `posix_spawn` blocks until the new program
is in place. A large program with threads would therefore measure badly and start slowly.

It survives a closed terminal and Ctrl-C: the runner decides. When the runner is gone, it kills what it started.

It is a subreaper (prctl(2)): every process in a job that loses its parent, in whatever session and with whatever environment,
becomes its child. It reaps these too, and when a job ends it kills them until none are left. So that no job loses processes of
another, there is one spawner for each concurrent job, up to a limit (`spawner_client`).

It imports nothing of Torc and little else: its own size is the lower bound of a job's peak memory. It makes no decisions and
does not name files: that is done at its other end, `spawner_client`.

A job may kill it. So what is waiting to be sent is kept in a memory file that it shares with the runner.

Frames in both directions: four bytes of length, little-endian, and one marshalled tuple (marshal: both ends are the same Python).
"""

# the C module below `signal`, which itself imports `enum` and takes longer than everything else
import _ctypes
import _signal as signal  # type: ignore[import-not-found]
import gc
import marshal
import os
import select
import sys
import time

#: from the runner: (ENVIRON, {name: value}), (START, key, place, argv, extra environment, stdout, stderr, keeps), (STOP, key,
#: for_good). A place holds one process: the next start waits for its end. What a job that `keeps` leaves behind stays. If `for_good`
#: is None, only a waiting start is stopped
ENVIRON, START, STOP = range(3)
#: to the runner: (BEGAN, key, pid, seconds), (FAILED, key, errno, text), (ENDED, key, status, seconds, user CPU seconds, system CPU
#: seconds, peak KiB, blocks read, blocks written, left); `seconds` are on the monotonic clock, blocks are 512 bytes; `left`: pids of
#: children that stay. If there are any, this spawner must start nothing more
BEGAN, FAILED, ENDED = range(3)
#: the file of unsent data starts with two little-endian numbers of this size: bytes sent before, bytes that follow
SIZE_BYTES = 8
#: values of `errno`: the kernel could not even be asked; stopped before it started
NO_ERRNO, WITHDRAWN = 0, -1

# no O_CLOEXEC: posix_spawn opens onto the descriptor itself, and the program would lose it at exec
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
PRESENT = os.O_WRONLY | os.O_NOFOLLOW
_DEFAULTED = (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGHUP, signal.SIGQUIT)
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_CHUNK = 1 << 15
_PATIENCE_SECONDS = 5
_PR_SET_CHILD_SUBREAPER = 36
#: of 1000: when memory runs out, the kernel kills jobs before their runner, which must report on them (proc(5), oom_score_adj)
_OOM_SCORE = b"500"
#: messages that require no decision by the runner are batched for this long
_LATER_SECONDS = 0.006


#: key, argv, extra environment, stdout, stderr, keeps
Job = tuple[int, list[bytes], dict[bytes, bytes], bytes, bytes, bool]
#: variables that distinguish the processes of one job from those of another
_NAMES = (b"TORC_JOB_ID", b"TORC_ATTEMPT_ID")


class Child:
    """A process that was started, and what was requested of it."""

    __slots__ = ("is_asked", "is_killed", "keeps", "key", "name", "pid", "place", "watched")

    def __init__(self, key: int, place: int, pid: int, watched: int, name: list[bytes], keeps: bool) -> None:
        self.key, self.place, self.pid, self.name, self.keeps = key, place, pid, name, keeps
        self.watched = watched  # pidfd of the process, or of a survivor in its session
        self.is_asked = self.is_killed = False  # asked to end by SIGTERM; killed by SIGKILL


class Spawner:
    """Serves one runner over a socket until it closes."""

    def __init__(self, fd: int, unsent_fd: int) -> None:
        self._fd, self._unsent_fd = fd, unsent_fd
        os.set_blocking(fd, False)
        self._epoll = select.epoll()
        self._epoll.register(fd, select.EPOLLIN)
        # the other end of the socket may live on in a fork of the runner
        self._runner = os.pidfd_open(os.getppid())
        self._epoll.register(self._runner, select.EPOLLIN)
        self._woken = wake_on_child()
        self._epoll.register(self._woken, select.EPOLLIN)
        self._kept: set[int] = set()  # pids that are to stay or cannot be killed
        self._environ: dict[bytes, bytes] = {}
        self._by_key: dict[int, Child] = {}
        self._by_fd: dict[int, Child] = {}
        self._lines: dict[int, list[Job]] = {}  # occupied place -> the starts waiting for it
        self._waiting: dict[int, int] = {}  # key -> place
        self._outputs = Outputs()
        self._read, self._unsent = b"", b""
        self._num_sent = 0  # in bytes
        self._is_full = False  # the socket to the runner
        self._is_urgent, self._send_by = False, 0.0

    def serve(self) -> None:
        """Work until the other end is closed."""
        while True:
            has_lost = False
            for fd, events in self._epoll.poll(_LATER_SECONDS if self._unsent and not self._is_full else None):
                if fd in self._by_fd:
                    self._ended(self._by_fd.pop(fd))
                elif fd == self._woken:
                    os.read(fd, _CHUNK)
                    has_lost = True
                elif fd == self._runner:
                    return
                elif events & select.EPOLLIN:
                    if not self._receive():
                        return
                elif events & select.EPOLLOUT:
                    self._is_urgent = True
                else:
                    return
            if has_lost:
                self._reap()
            if self._unsent and (self._is_urgent or time.monotonic() > self._send_by):
                self._send()

    def kill_all(self) -> None:
        """Kill everything that was started and wait for its end, up to a time limit."""
        for child in self._by_key.values():
            stop(child.pid, for_good=True)
        signal.alarm(_PATIENCE_SECONDS)  # ends this process
        while self._by_key:
            _, child = self._by_key.popitem()
            os.waitpid(child.pid, 0)
        self._kept |= end_children(lambda pid: pid not in self._kept)

    def _reap(self) -> None:
        """Reap what has ended and is not waited for elsewhere."""
        try:
            while (found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                if any(child.pid == found.si_pid for child in self._by_key.values()):
                    break  # reaped through its pidfd; it blocks those behind it
                os.waitpid(found.si_pid, 0)
                self._kept.discard(found.si_pid)
            else:
                return
        except ChildProcessError:
            return
        ours = {child.pid for child in self._by_key.values()}
        for pid in children():
            if pid not in ours and os.waitpid(pid, os.WNOHANG)[0]:
                self._kept.discard(pid)

    def _receive(self) -> bool:
        """Handle the runner's messages; return whether the runner is still there."""
        try:
            part = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        data, at = self._read + part, 0
        while len(data) - at >= 4:
            end = at + 4 + int.from_bytes(data[at : at + 4], "little")
            if end > len(data):
                break
            self._obey(marshal.loads(data[at + 4 : end]))
            at = end
        self._read = data[at:]
        return bool(part)

    def _obey(self, message: tuple) -> None:  # type: ignore[type-arg]
        if message[0] == START:
            _, key, place, *what = message
            if place in self._lines:
                self._lines[place].append((key, *what))
                self._waiting[key] = place
            else:
                self._lines[place] = []
                self._start(place, (key, *what))
        elif message[0] == ENVIRON:
            self._environ = message[1]
        else:
            self._stop(*message[1:])

    def _stop(self, key: int, for_good: bool | None) -> None:
        if key in self._by_key:
            if for_good is not None:
                child = self._by_key[key]
                child.is_asked, child.is_killed = True, child.is_killed or for_good
                stop(child.pid, for_good=for_good)
        elif key in self._waiting:
            line = self._lines[self._waiting.pop(key)]
            line[:] = [job for job in line if job[0] != key]
            self._tell((FAILED, key, WITHDRAWN, "it was stopped before it started"), is_urgent=True)

    def _start(self, place: int, job: Job) -> None:
        key, program, keeps = job[0], job[1:-1], job[-1]
        began = time.monotonic()
        try:
            pid = self._spawn(*program)
            name = [b"%s=%s" % (each, program[1].get(each, b"")) for each in _NAMES]
            child = Child(key, place, pid, watch(pid), name, keeps)
        except OSError as error:
            self._tell((FAILED, key, error.errno, error.strerror), is_urgent=True)
        except ValueError as error:  # a NUL in an argument or a variable
            self._tell((FAILED, key, NO_ERRNO, str(error)), is_urgent=True)
        else:
            self._by_key[key] = child
            self._watch(child)
            self._tell((BEGAN, key, pid, began), is_urgent=not self._lines[place])
            return
        self._go_on(place)

    def _spawn(self, argv: list[bytes], more: dict[bytes, bytes], stdout: bytes, stderr: bytes) -> int:
        environ = {**self._environ, **more}
        try:
            return self._begin(argv, environ, (stdout, NEW), (stderr, NEW))
        except (FileNotFoundError, FileExistsError):  # the log folder was removed, or something else took its place
            self._outputs.forget()
            out, err = ((path, NEW if self._outputs.clear(path) else PRESENT) for path in (stdout, stderr))
            return self._begin(argv, environ, out, err)

    def _begin(
        self, argv: list[bytes], environ: dict[bytes, bytes], stdout: tuple[bytes, int], stderr: tuple[bytes, int]
    ) -> int:
        place = self._outputs.place
        err = (os.POSIX_SPAWN_OPEN, 2, place(stderr[0]), stderr[1], 0o600)
        return os.posix_spawn(
            argv[0],
            argv,
            environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 1, place(stdout[0]), stdout[1], 0o600),
                err if stderr != stdout else (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=_DEFAULTED,
        )

    def _go_on(self, place: int) -> None:
        """Start what was waiting for a place that is now free."""
        line = self._lines[place]
        if line:
            job = line.pop(0)
            del self._waiting[job[0]]
            self._start(place, job)
        else:
            del self._lines[place]

    def _watch(self, child: Child) -> None:
        self._by_fd[child.watched] = child
        self._epoll.register(child.watched, select.EPOLLIN)

    def _ended(self, child: Child) -> None:
        """Handle the end of a process, or of a survivor that used the grace period to save its work."""
        # closing is not enough: a child in the middle of its exec may still hold it
        self._epoll.unregister(child.watched)
        os.close(child.watched)
        if child.is_asked and not child.is_killed:
            member = open_member(child.pid)
            if member is not None:
                child.watched = member
                self._watch(child)
                return
        del self._by_key[child.key]
        if not child.keeps:
            signal_group(child.pid, signal.SIGKILL)  # its leftovers, while the group id cannot have been reused
        _, status, used = os.wait4(child.pid, 0)
        left = self._leaves(child)
        self._tell(
            (
                ENDED,
                child.key,
                status,
                time.monotonic(),
                used.ru_utime,
                used.ru_stime,
                used.ru_maxrss,
                used.ru_inblock,
                used.ru_oublock,
                left,
            ),
            is_urgent=not self._lines[child.place],
        )
        self._go_on(child.place)

    def _leaves(self, child: Child) -> list[int]:
        """Kill what a job has left behind; return what is to stay, unless something else is running here."""
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return []  # no children at all
        others = {other.pid for other in self._by_key.values()}
        if child.keeps:
            self._reap()
            left = {pid for pid in children() if pid not in others and (not others or is_of(pid, child))}
            self._kept |= left
            return [] if others or self._lines[child.place] else list(left)
        self._kept |= end_children(
            lambda pid: pid not in others and pid not in self._kept and (not others or is_of(pid, child))
        )
        return []

    def _tell(self, message: tuple, *, is_urgent: bool) -> None:  # type: ignore[type-arg]
        """Queue a message: sent at once if the runner has to decide something, otherwise in a batch."""
        data = marshal.dumps(message)
        if not self._unsent:
            self._send_by = time.monotonic() + _LATER_SECONDS
        self._unsent += len(data).to_bytes(4, "little") + data
        self._is_urgent = self._is_urgent or is_urgent
        if not is_urgent or self._is_full:
            sizes = self._num_sent.to_bytes(SIZE_BYTES, "little") + len(self._unsent).to_bytes(SIZE_BYTES, "little")
            os.pwrite(self._unsent_fd, sizes + self._unsent, 0)

    def _send(self) -> None:
        """Send queued data without ever blocking: the runner may itself be blocked sending."""
        self._is_urgent = False
        try:
            number = os.write(self._fd, self._unsent)
            self._num_sent += number
            self._unsent = self._unsent[number:]
        except BlockingIOError:
            pass
        except OSError:
            return  # it is gone, which reading reports
        if bool(self._unsent) != self._is_full:
            self._is_full = bool(self._unsent)
            self._epoll.modify(self._fd, select.EPOLLIN | (select.EPOLLOUT if self._is_full else 0))


def become_subreaper() -> None:
    """Make orphaned descendants of this process its children (prctl(2))."""
    try:
        # importing `ctypes` would add a tenth to the smallest memory peak of a job
        program = _ctypes.dlopen(None, 2)  # type: ignore[arg-type]
        prctl = _ctypes.dlsym(program, "prctl")
        _ctypes.call_function(prctl, (_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
    except OSError:
        return


def wake_on_child() -> int:
    """Return a descriptor that becomes readable whenever a child has ended."""
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    return read


def children() -> list[int]:
    """Return the children of this process, including zombies."""
    own = os.getpid()
    try:
        with open(f"/proc/self/task/{own}/children", "rb", buffering=0) as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and parent_of(int(name)) == own]


def parent_of(pid: int) -> int:
    """Return the parent of a process; 0: it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            return int(file.read().rpartition(b") ")[2].split()[1])
    except OSError:
        return 0


def is_of(pid: int, job: Child) -> bool:
    """Return whether a process belongs to a job, by session or environment; needed only when others run beside it."""
    try:
        if os.getsid(pid) == job.pid:
            return True
        with open(f"/proc/{pid}/environ", "rb") as file:
            environ = file.read().split(b"\0")
    except OSError:
        return False
    return all(each in environ for each in job.name)


def end_children(is_left, patience: float = _PATIENCE_SECONDS) -> set[int]:  # type: ignore[no-untyped-def]
    """Kill the children of this process for which `is_left(pid)` holds until none are left; return those that cannot be killed.

    The children of what was killed become children of this process.
    """
    deadline = time.monotonic() + patience
    unkillable: set[int] = set()
    while found := [pid for pid in children() if pid not in unkillable and is_left(pid)]:
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except PermissionError:  # it now belongs to another user
                unkillable.add(pid)
            except OSError:
                continue
        for pid in found:
            if pid not in unkillable and not _has_ended(pid, deadline):
                unkillable.add(pid)  # it is waiting for a file system that does not answer
    return unkillable


def _has_ended(pid: int, deadline: float) -> bool:
    """Wait for a child that was killed, up to `deadline`."""
    while True:
        try:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return True
        except ChildProcessError:
            return True
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        try:
            watched = os.pidfd_open(pid)
        except OSError:
            time.sleep(0.001)
            continue
        select.select([watched], [], [], left)
        os.close(watched)


def _make_folders(folder: bytes) -> None:
    """Create a folder and its parents, readable only by the owner: `os.makedirs` would apply the umask to the parents."""
    if not os.path.isdir(folder):
        if (above := os.path.dirname(folder)) != folder:
            _make_folders(above)
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            if not os.path.isdir(folder):
                raise


class Outputs:
    """Where programs write their output: never through a link or over an existing file, as others may write to the parent folder.

    A folder is checked once and kept open, so it stays the same even if its name is taken over.
    """

    def __init__(self) -> None:
        self._folders: dict[bytes, int] = {}  # open folders: one for logs, and a few others

    def place(self, path: bytes) -> bytes:
        """Return a path to open with `NEW`, or with `PRESENT` if `clear` says so. Raises OSError."""
        folder, _, name = path.rpartition(b"/")
        fd = self._folders.get(folder)
        if fd is None:
            _make_folders(folder)
            fd = self._folders[folder] = self._entered(folder)
        return b"/proc/self/fd/%d/%s" % (fd, name)

    def clear(self, path: bytes) -> bool:
        """Remove a file or link that is in the way; return whether to create a new one: False for a pipe or a device."""
        place = self.place(path)
        try:
            kind = os.stat(place, follow_symlinks=False).st_mode & 0o170000
        except FileNotFoundError:
            return True
        if kind in {0o100000, 0o120000}:  # a regular file, a symbolic link: inode(7)
            os.unlink(place)
            return True
        return False

    def forget(self) -> None:
        """Check folders again."""
        for fd in self._folders.values():
            os.close(fd)
        self._folders = {}

    def _entered(self, folder: bytes) -> int:
        fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        owner = os.stat(fd).st_uid
        if owner not in {os.geteuid(), 0}:
            probe = os.open(b"/proc/self/fd/%d/.probe-%d" % (fd, os.getpid()), NEW | os.O_CLOEXEC, 0o600)
            os.unlink(b"/proc/self/fd/%d/.probe-%d" % (fd, os.getpid()))
            is_ours = os.fstat(probe).st_uid == owner  # a file system may assign files created by root to another user
            os.close(probe)
            if not is_ours:
                os.close(fd)
                raise PermissionError(1, "the log folder belongs to another user")
        return fd


def make_scratch(base: str) -> str:
    """Make a folder that only its owner can read; returns none where that cannot be done."""
    folder = os.path.join(base, f"torc-{os.getpid()}-{os.urandom(4).hex()}")
    try:
        os.mkdir(folder, 0o700)
    except OSError:
        return ""
    return folder


def watch(pid: int) -> int:
    """Return a pidfd of a process that was just started. Raises OSError, after ending the process."""
    try:
        return os.pidfd_open(pid)
    except OSError:  # too many open files
        signal_group(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def stop(pid: int, *, for_good: bool) -> None:
    """Signal a process, its group and its whole session; a stopped one is continued so that it can react."""
    number = signal.SIGKILL if for_good else signal.SIGTERM
    signal_group(pid, number)
    for member in session_members(pid):
        if member != pid:
            try:
                os.kill(member, number)
            except OSError:  # gone, or another user's
                continue
    if not for_good:
        signal_group(pid, signal.SIGCONT)


def signal_group(pid: int, number: int) -> None:
    """Signal a process group, if it exists and may be signalled."""
    try:
        os.killpg(pid, number)
    except OSError:
        return


def open_member(session: int) -> int | None:
    """Return a pidfd of a live process in a session other than its ended leader; None if there is none."""
    for pid in session_members(session):
        if pid != session and is_alive(pid):
            try:
                return os.pidfd_open(pid)
            except OSError:
                continue
    return None


def session_members(session: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.getsid(int(name)) == session:
                    found.append(int(name))
            except OSError:
                continue
    return found


def is_alive(pid: int) -> bool:
    """Return whether a process exists and is not a zombie (/proc/PID/stat, field 3, proc(5))."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] not in b"ZX"
    except OSError:
        return False


def offer_to_kernel() -> None:
    """Make processes started from here the first victims when memory runs out."""
    try:
        with open("/proc/self/oom_score_adj", "r+b", buffering=0) as file:
            if int(file.read()) < int(_OOM_SCORE):
                file.write(_OOM_SCORE)
    except OSError:
        return


def main(fd: int, unsent_fd: int) -> None:
    """Serve the runner at the other end of a socket; when it is gone, kill what was started, however this ends.

    Data waiting to be sent is kept in the file `unsent_fd`. Standard input is /dev/null, which children inherit.
    """
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    offer_to_kernel()
    become_subreaper()
    os.set_inheritable(fd, False)
    os.set_inheritable(unsent_fd, False)
    gc.disable()  # nothing here is cyclic
    spawner = Spawner(fd, unsent_fd)
    try:
        spawner.serve()
    finally:
        spawner.kill_all()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))

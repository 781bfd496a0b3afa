"""The small process that starts the jobs of one runner, waits for them, and tells what the kernel counted. A program of its own.

It is small because of how Linux works: a process begins with the peak memory of the one that started it, and `posix_spawn`
stands still until the new program is in place. So a large program with threads neither measures nor starts well.

It stays when the terminal is closed or Ctrl-C is typed: the runner decides. When the runner is gone, it kills what it started.

It is a subreaper (prctl(2)): whatever loses its parent in a job, in whatever session and with whatever environment, becomes its
child. It waits for these too, and when a job ends it kills them until none is left. So that no job loses what is another's, there
is one spawner for each job at a time, as long as they are not too many (`spawner_client`).

It imports nothing of Torc and little else: its own size is the least peak memory that a job can have. Not for deciding
anything, nor for files: `spawner_client` is its other end.

A job may kill it. So what waits to be sent is kept in a file in memory that the runner has, too.

Frames in both directions: four bytes of length, least first, and one marshalled tuple (marshal: both ends are one Python).
"""

# what is below `signal`, which imports `enum` and with it takes longer than all the rest
import _ctypes
import _signal as signal  # type: ignore[import-not-found]
import gc
import marshal
import os
import select
import sys
import time

#: to here: (ENVIRON, {name: value}), (START, key, place, argv, more environment, stdout, stderr, keeps), (STOP, key, for_good). A place
#: has room for one process: the next start waits in line for its end. What a job that `keeps` leaves behind stays. Where `for_good` is
#: None, only what waits is stopped
ENVIRON, START, STOP = range(3)
#: from here: (BEGAN, key, pid, seconds), (FAILED, key, errno, text), (ENDED, key, status, seconds, user CPU seconds, system CPU
#: seconds, peak KiB, blocks read, blocks written, left); `seconds` are on the monotonic clock, blocks of 512 bytes; `left`: pids of
#: children that stay. Where there are some, this spawner is to start nothing more
BEGAN, FAILED, ENDED = range(3)
#: the file of what waits to be sent begins with two numbers of so many bytes, least first: bytes sent before, bytes that follow
SIZE_BYTES = 8
#: values of `errno`: for what could not be passed to the kernel at all, and for what was stopped before it was started
NO_ERRNO, WITHDRAWN = 0, -1

# no O_CLOEXEC: posix_spawn opens onto the descriptor itself, and the program would lose it at exec
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
PRESENT = os.O_WRONLY | os.O_NOFOLLOW
_DEFAULTED = (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGHUP, signal.SIGQUIT)
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_CHUNK = 1 << 15
_PATIENCE_SECONDS = 5
_PR_SET_CHILD_SUBREAPER = 36
#: of 1000: when memory runs out, the kernel ends jobs before their runner, which must report on them (proc(5), oom_score_adj)
_OOM_SCORE = b"500"
#: what the runner need not decide anything about waits so long for company
_LATER_SECONDS = 0.006


#: key, argv, more environment, stdout, stderr, keeps
Job = tuple[int, list[bytes], dict[bytes, bytes], bytes, bytes, bool]
#: what tells the processes of a job from those of another in its environment
_NAMES = (b"TORC_JOB_ID", b"TORC_ATTEMPT_ID")


class Child:
    """A process that was started, and what has been asked of it."""

    __slots__ = ("is_asked", "is_killed", "keeps", "key", "name", "pid", "place", "watched")

    def __init__(self, key: int, place: int, pid: int, watched: int, name: list[bytes], keeps: bool) -> None:
        self.key, self.place, self.pid, self.name, self.keeps = key, place, pid, name, keeps
        self.watched = watched  # pidfd of the process, or of one that outlived it
        self.is_asked = self.is_killed = False  # to end, by SIGTERM; by SIGKILL


class Spawner:
    """Serves one runner over a socket until it closes."""

    def __init__(self, fd: int, unsent_fd: int) -> None:
        self._fd, self._unsent_fd = fd, unsent_fd
        os.set_blocking(fd, False)
        self._epoll = select.epoll()
        self._epoll.register(fd, select.EPOLLIN)
        # another end of the socket may live on where somebody has forked the runner
        self._runner = os.pidfd_open(os.getppid())
        self._epoll.register(self._runner, select.EPOLLIN)
        self._woken = wake_on_child()
        self._epoll.register(self._woken, select.EPOLLIN)
        self._kept: set[int] = set()  # pids that are to stay, or cannot be ended
        self._environ: dict[bytes, bytes] = {}
        self._by_key: dict[int, Child] = {}
        self._by_fd: dict[int, Child] = {}
        self._lines: dict[int, list[Job]] = {}  # place that is taken -> what waits for it
        self._waiting: dict[int, int] = {}  # key -> place
        self._outputs = Outputs()
        self._read, self._unsent = b"", b""
        self._num_sent = 0  # bytes
        self._is_full = False  # the way to the runner
        self._is_urgent, self._send_by = False, 0.0

    def serve(self) -> None:
        """Work until the other end is gone."""
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
        """Kill everything that was started, and wait for its end; not for ever."""
        for child in self._by_key.values():
            stop(child.pid, for_good=True)
        signal.alarm(_PATIENCE_SECONDS)  # ends this process
        while self._by_key:
            _, child = self._by_key.popitem()
            os.waitpid(child.pid, 0)
        self._kept |= end_children(lambda pid: pid not in self._kept)

    def _reap(self) -> None:
        """Wait for what has ended and nobody else waits for."""
        try:
            while (found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                if any(child.pid == found.si_pid for child in self._by_key.values()):
                    break  # told by its pidfd; it stands before others
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
        """Do what the runner says; tell whether it is still there."""
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
            self._tell((FAILED, key, WITHDRAWN, "it was stopped before"), is_urgent=True)

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
        except (FileNotFoundError, FileExistsError):  # somebody removed the folder of logs, or put something there
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
        """Start what waits for a place that is free now."""
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
        """Take the end of a process, or of one that outlived it and used the time of grace to save its work."""
        # closing is not enough: a child in the middle of its exec may hold it still
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
            signal_group(child.pid, signal.SIGKILL)  # what it left, while the group cannot have become another's
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
        """End what a job has left behind; returns what is to stay, unless something else runs here."""
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return []  # nothing at all
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
        """Note what to say: at once where the runner has to decide something, else together with more."""
        data = marshal.dumps(message)
        if not self._unsent:
            self._send_by = time.monotonic() + _LATER_SECONDS
        self._unsent += len(data).to_bytes(4, "little") + data
        self._is_urgent = self._is_urgent or is_urgent
        if not is_urgent or self._is_full:
            sizes = self._num_sent.to_bytes(SIZE_BYTES, "little") + len(self._unsent).to_bytes(SIZE_BYTES, "little")
            os.pwrite(self._unsent_fd, sizes + self._unsent, 0)

    def _send(self) -> None:
        """Send what is to be said without ever waiting: the runner may be waiting to send something itself."""
        self._is_urgent = False
        try:
            number = os.write(self._fd, self._unsent)
            self._num_sent += number
            self._unsent = self._unsent[number:]
        except BlockingIOError:
            pass
        except OSError:
            return  # it is gone: reading tells
        if bool(self._unsent) != self._is_full:
            self._is_full = bool(self._unsent)
            self._epoll.modify(self._fd, select.EPOLLIN | (select.EPOLLOUT if self._is_full else 0))


def become_subreaper() -> None:
    """Have orphans among the descendants of this process become its children (prctl(2))."""
    try:
        # `ctypes` itself would be a tenth of what a job is measured with at least
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
    """Return the children of this process, zombies too."""
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
    """Return whether a process is of a job, by its session or its environment: only where others run beside it."""
    try:
        if os.getsid(pid) == job.pid:
            return True
        with open(f"/proc/{pid}/environ", "rb") as file:
            environ = file.read().split(b"\0")
    except OSError:
        return False
    return all(each in environ for each in job.name)


def end_children(is_left, patience: float = _PATIENCE_SECONDS) -> set[int]:  # type: ignore[no-untyped-def]
    """Kill children of this process until none is left for which `is_left(pid)` holds; returns those that cannot be killed.

    The children of what was killed become children of this process.
    """
    deadline = time.monotonic() + patience
    unkillable: set[int] = set()
    while found := [pid for pid in children() if pid not in unkillable and is_left(pid)]:
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except PermissionError:  # it has become another user's
                unkillable.add(pid)
            except OSError:
                continue
        for pid in found:
            if pid not in unkillable and not _has_ended(pid, deadline):
                unkillable.add(pid)  # it waits for a file system that does not answer
    return unkillable


def _has_ended(pid: int, deadline: float) -> bool:
    """Wait for a child that was killed; not for ever."""
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
    """Make a folder for its owner alone, and those above it: `os.makedirs` would make them as the umask says."""
    if not os.path.isdir(folder):
        if (above := os.path.dirname(folder)) != folder:
            _make_folders(above)
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            if not os.path.isdir(folder):
                raise


class Outputs:
    """Where programs write to: through no link, and over no file that was there, for others may write to the folder above.

    A folder is looked at once and kept open: it stays the same, whatever takes its name.
    """

    def __init__(self) -> None:
        self._folders: dict[bytes, int] = {}  # open ones: one for logs, and few besides

    def place(self, path: bytes) -> bytes:
        """Return a path to open with `NEW`, or where `clear` says so with `PRESENT`. Raises OSError."""
        folder, _, name = path.rpartition(b"/")
        fd = self._folders.get(folder)
        if fd is None:
            _make_folders(folder)
            fd = self._folders[folder] = self._entered(folder)
        return b"/proc/self/fd/%d/%s" % (fd, name)

    def clear(self, path: bytes) -> bool:
        """Remove a file or link of a start that failed, or that was put there; tell whether to make one: not of a pipe or device."""
        place = self.place(path)
        try:
            kind = os.stat(place, follow_symlinks=False).st_mode & 0o170000
        except FileNotFoundError:
            return True
        if kind in {0o100000, 0o120000}:  # a file, a link: inode(7)
            os.unlink(place)
            return True
        return False

    def forget(self) -> None:
        """Look at folders anew."""
        for fd in self._folders.values():
            os.close(fd)
        self._folders = {}

    def _entered(self, folder: bytes) -> int:
        fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        owner = os.stat(fd).st_uid
        if owner not in {os.geteuid(), 0}:
            probe = os.open(b"/proc/self/fd/%d/.probe-%d" % (fd, os.getpid()), NEW | os.O_CLOEXEC, 0o600)
            os.unlink(b"/proc/self/fd/%d/.probe-%d" % (fd, os.getpid()))
            is_ours = os.fstat(probe).st_uid == owner  # a file system may give to another what root makes
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
    """Return a pidfd of a process that was just started. Raises OSError, and then it is no more."""
    try:
        return os.pidfd_open(pid)
    except OSError:  # too many files are open
        signal_group(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def stop(pid: int, *, for_good: bool) -> None:
    """Signal a process, its group and all of its session; a stopped one is woken, so that it can react."""
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
    """Signal a process group, where there is one that may be signalled."""
    try:
        os.killpg(pid, number)
    except OSError:
        return


def open_member(session: int) -> int | None:
    """Return a pidfd of a live process of a session beside its leader, which has ended; None when there is none."""
    for pid in session_members(session):
        if pid != session and is_alive(pid):
            try:
                return os.pidfd_open(pid)
            except OSError:
                continue
    return None


def session_members(session: int) -> list[int]:
    """Return the processes of a session."""
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
    """Return whether a process is there and no zombie (/proc/PID/stat, field 3, proc(5))."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] not in b"ZX"
    except OSError:
        return False


def offer_to_kernel() -> None:
    """Have what is started from here ended first where memory runs out."""
    try:
        with open("/proc/self/oom_score_adj", "r+b", buffering=0) as file:
            if int(file.read()) < int(_OOM_SCORE):
                file.write(_OOM_SCORE)
    except OSError:
        return


def main(fd: int, unsent_fd: int) -> None:
    """Serve the runner at the other end of a socket; kill what was started when it is gone, however this ends.

    What waits to be sent is kept in the file `unsent_fd`. Standard input is /dev/null, and what is started gets it.
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

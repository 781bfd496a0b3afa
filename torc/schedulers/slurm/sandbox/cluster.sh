#!/usr/bin/env bash
# A private, real Slurm cluster on the loopback of one machine, without systemd: munge, MariaDB, slurmdbd, slurmctld and
# some virtual nodes. Started by torc.schedulers.slurm.sandbox, which sets the variables below; each may be set by hand too.
#
#   cluster.sh start | stop | status | clean
#   cluster.sh node-start N | node-stop N | node-kill N | controller-start | controller-stop
#
# All that it writes (keys, configuration, database, spool, logs, pids) is in its folder: nothing in /etc, /var or /run.
# So it gets along with another Slurm on the same machine, and with other sandboxes of other node names and ports.
set -u

D=${TORC_SANDBOX_DIR:?}
BASE=${TORC_SANDBOX_PORT_BASE:-17000}         # slurmctld +0, slurmdbd +1, MariaDB +2, node i +10+i
PREFIX=${TORC_SANDBOX_PREFIX:-n}              # nodes are PREFIX1..PREFIXn; cgroups are named after nodes: no two sandboxes share one
NODES=${TORC_SANDBOX_NODES:-3}
CPUS=${TORC_SANDBOX_CPUS:-4}                  # declared for each node, whatever the machine has
MEM=${TORC_SANDBOX_MEMORY_MB:-4000}           # likewise
GPUS=${TORC_SANDBOX_GPUS:-2}                  # of each node, pretended
GPU_TYPE=${TORC_SANDBOX_GPU_TYPE:-}
SLURMD_TIMEOUT=${TORC_SANDBOX_SLURMD_TIMEOUT:-15}  # s until a node that does not answer is DOWN
KILL_WAIT=${TORC_SANDBOX_KILL_WAIT:-2}        # s from SIGTERM to SIGKILL at the time limit
CRED_EXPIRE=${TORC_SANDBOX_CRED_EXPIRE:-5}    # s that a requeued job waits (Slurm's default is 120)
MESSAGE_TIMEOUT=${TORC_SANDBOX_MESSAGE_TIMEOUT:-10}
CGROUP=${TORC_SANDBOX_CGROUP:-auto}           # on: memory limits by cgroup v1, with OUT_OF_MEMORY; off: by polling
ACCOUNTING=${TORC_SANDBOX_ACCOUNTING:-1}      # 0: no MariaDB, no slurmdbd, no sacct
INSTALL=${TORC_SANDBOX_INSTALL:-1}            # 0: install no packages
EXTRA=${TORC_SANDBOX_EXTRA_CONF:-}            # further lines of slurm.conf

PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH
for name in $(compgen -e | grep -E '^(SLURM|SBATCH|SALLOC|SRUN|SQUEUE|SACCT|SINFO|SCONTROL)'); do unset "$name"; done
ETC=$D/etc RUN=$D/run LOG=$D/log
export SLURM_CONF=$ETC/slurm.conf LC_ALL=C
ME=$(id -un)
PORT_CTLD=$BASE PORT_DBD=$((BASE+1)) PORT_DB=$((BASE+2))

say()  { printf '%s\n' "$*" >&2; }
die()  { say "ERROR: $*"; exit 1; }
nodes(){ local i; for ((i=1;i<=NODES;i++)); do echo "$PREFIX$i"; done; }
port_of() { echo $((BASE+10+${1#"$PREFIX"})); }
is_node() { [[ $1 == "$PREFIX"* && ${1#"$PREFIX"} =~ ^[1-9][0-9]*$ && ${1#"$PREFIX"} -le $NODES ]] || die "there is no node $1: nodes are ${PREFIX}1 to $PREFIX$NODES"; }

# the pid of a daemon of ours, looked up in /proc so that a pid given meanwhile to another process, or to a thread of one, is never ours
# $1: pid file, $2: name of the program, $3: text that must be in its arguments or environment
pid_of() {
  local p; [ -s "$1" ] || return 1
  read -r p < "$1" || true
  [[ $p =~ ^[0-9]+$ ]] && grep -qsx "Tgid:[[:space:]]*$p" "/proc/$p/status" || return 1
  [ "$(cat "/proc/$p/comm" 2>/dev/null)" = "$2" ] || return 1
  grep -qzF -- "$3" "/proc/$p/cmdline" 2>/dev/null || grep -qzF -- "$3" "/proc/$p/environ" 2>/dev/null || return 1
  [ "$(awk '/^State/{print $2}' "/proc/$p/status" 2>/dev/null)" != Z ] || return 1
  echo "$p"
}
pid_munged()  { pid_of "$RUN/munged.pid"    munged    "$RUN/munge.socket"; }
pid_mariadb() { pid_of "$RUN/mariadb.pid"   mariadbd  "$D/mysql"; }
pid_dbd()     { pid_of "$RUN/slurmdbd.pid"  slurmdbd  "SLURM_CONF=$SLURM_CONF"; }
pid_ctld()    { pid_of "$RUN/slurmctld.pid" slurmctld "$SLURM_CONF"; }
pid_node()    { pid_of "$RUN/slurmd-$1.pid" slurmd    "$SLURM_CONF"; }

wait_for() { # $1: seconds, rest: a command, asked every 50 ms
  local end=$(( $(date +%s) + $1 )); shift
  until "$@" >/dev/null 2>&1; do [ "$(date +%s)" -lt "$end" ] || return 1; sleep 0.05; done
}
is_gone() { [ ! -d "/proc/$1" ] || grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null; }
port_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
end_pid() { # $1: name, $2: pid, $3: seconds before SIGKILL
  [ -n "$2" ] || return 0
  kill -TERM "$2" 2>/dev/null
  wait_for "${3:-10}" is_gone "$2" || { say "$1 ($2) goes on after SIGTERM: killed"; kill -KILL "$2" 2>/dev/null; wait_for 5 is_gone "$2"; }
}

install_packages() {
  local need=() b sudo=()
  declare -A package=([slurmctld]=slurmctld [slurmd]=slurmd [sbatch]=slurm-client [munged]=munge [ss]=iproute2 [ps]=procps)
  [ "$ACCOUNTING" = 1 ] && package+=([slurmdbd]=slurmdbd [mariadbd]=mariadb-server)
  for b in "${!package[@]}"; do command -v "$b" >/dev/null || need+=("${package[$b]}"); done
  [ ${#need[@]} = 0 ] && return 0
  local by_hand="apt-get install ${need[*]}"
  command -v apt-get >/dev/null || die "not installed: ${!package[*]} (some of them); this machine has no apt-get: install Slurm, munge and MariaDB by its own means"
  [ "$INSTALL" = 1 ] || die "not installed: ${need[*]}; install them: $by_hand"
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || die "not installed: ${need[*]}; install them as root: $by_hand"
    if sudo -n true 2>/dev/null; then sudo=(sudo -n); elif [ -t 0 ]; then sudo=(sudo); say "installing ${need[*]} takes root:"; else
      die "not installed: ${need[*]}; install them: sudo $by_hand"; fi
  fi
  say "installing ${need[*]}"
  mkdir -p "$LOG"
  # policy-rc.d keeps the packages from starting daemons of their own
  "${sudo[@]}" sh -c '
    made=
    if [ ! -e /usr/sbin/policy-rc.d ]; then printf "#!/bin/sh\nexit 101\n" > /usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d; made=1; fi
    apt-get update -qq; DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=120 "$@"
    code=$?; [ -z "$made" ] || rm -f /usr/sbin/policy-rc.d; exit $code' sh "${need[@]}" >"$LOG/apt.log" 2>&1 ||
    { tail -5 "$LOG/apt.log" >&2; die "cannot install ${need[*]}: see $LOG/apt.log, or install them: $by_hand"; }
}

cgroup_works() { # cgroup v1 with memory and freezer, to be written by us
  local c d
  [ "$(id -u)" = 0 ] || return 1
  for c in freezer memory cpuacct; do
    d=/sys/fs/cgroup/$c/torc_probe_$$; { [ -d "/sys/fs/cgroup/$c" ] && mkdir "$d" && rmdir "$d"; } 2>/dev/null || return 1
  done
}
cgroup_clean() { # the empty cgroups that our nodes leave
  local n d
  for n in $(nodes); do for d in /sys/fs/cgroup/*/slurm_"$n"; do
    [ -d "$d" ] && find "$d" -depth -type d -exec rmdir {} + 2>/dev/null
  done; done; return 0
}
version_is() { # at least $1.$2
  local major minor
  IFS=. read -r major minor _ < <(slurmctld -V | awk '{print $2}')
  [ "$major" -gt "$1" ] || { [ "$major" = "$1" ] && [ "${minor#0}" -ge "$2" ]; }
}
list() { [ "$NODES" = 1 ] && echo "$1$2" || echo "$1[$2-$3]"; } # a range as Slurm writes it

password() { # of the database, for this sandbox alone
  [ -s "$ETC/database.password" ] || ( umask 077; head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n' > "$ETC/database.password" )
  cat "$ETC/database.password"
}

write_gpus() {
  local i
  : > "$ETC/gres.conf"
  for ((i=0;i<GPUS;i++)); do # a GPU is a character device, else CUDA_VISIBLE_DEVICES is not set: a second /dev/null will do
    [ -c "$D/dev/gpu$i" ] || mknod -m 666 "$D/dev/gpu$i" c 1 3 2>/dev/null || ln -sf /dev/null "$D/dev/gpu$i"
    echo "NodeName=$(list "$PREFIX" 1 "$NODES") AutoDetect=off Name=gpu${GPU_TYPE:+ Type=$GPU_TYPE} File=$D/dev/gpu$i" >> "$ETC/gres.conf"
  done
}
write_configuration() {
  if [ "$CGROUP" = auto ]; then if cgroup_works; then CGROUP=on; else CGROUP=off; fi; fi
  mkdir -p "$ETC" "$RUN" "$LOG" "$D/state" "$D/spool" "$D/dev"
  chmod 755 "$D" "$ETC" "$RUN" "$LOG" "$D/spool" "$D/dev"
  write_gpus
  local gres_types= gres= tracking accounting=AccountingStorageType=accounting_storage/none
  [ "$GPUS" -gt 0 ] && { gres_types=GresTypes=gpu; gres=" Gres=gpu:${GPU_TYPE:+$GPU_TYPE:}$GPUS"; }
  if [ "$CGROUP" = on ]; then
    say "memory limits: by cgroups"
    tracking="ProctrackType=proctrack/cgroup"$'\n'"TaskPlugin=task/cgroup"$'\n'"JobAcctGatherType=jobacct_gather/cgroup"$'\n'"JobAcctGatherFrequency=task=1"
    printf 'ConstrainRAMSpace=yes\nConstrainSwapSpace=yes\nAllowedSwapSpace=0\nConstrainCores=no\nConstrainDevices=no\n' > "$ETC/cgroup.conf"
  else
    say "memory limits: by looking each second (no cgroup v1 to write to): a job over its limit ends as FAILED, not as OUT_OF_MEMORY"
    tracking="ProctrackType=proctrack/linuxproc"$'\n'"TaskPlugin=task/none"$'\n'"JobAcctGatherType=jobacct_gather/linux"$'\n'"JobAcctGatherFrequency=task=1"$'\n'"JobAcctGatherParams=OverMemoryKill"
    rm -f "$ETC/cgroup.conf"
    version_is 23 11 && printf 'CgroupPlugin=disabled\n' > "$ETC/cgroup.conf"
  fi
  if [ "$ACCOUNTING" = 1 ]; then
    accounting="AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort=$PORT_DBD
AccountingStoragePass=$RUN/munge.socket"
    [ "$GPUS" -gt 0 ] && accounting+=$'\n'"AccountingStorageTRES=gres/gpu"
  fi
  local all; all=$(list "$PREFIX" 1 "$NODES")
  cat > "$SLURM_CONF.new" <<CONF
ClusterName=sandbox
SlurmctldHost=localhost
SlurmUser=$ME
SlurmdUser=$ME
SlurmctldPort=$PORT_CTLD
SlurmdPort=$((BASE+11))
AuthType=auth/munge
AuthInfo=socket=$RUN/munge.socket,cred_expire=$CRED_EXPIRE
MpiDefault=none
MailProg=/bin/true
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SwitchType=switch/none

StateSaveLocation=$D/state
SlurmdSpoolDir=$D/spool/%n
SlurmctldPidFile=$RUN/slurmctld.pid
SlurmdPidFile=$RUN/slurmd-%n.pid
SlurmctldLogFile=$LOG/slurmctld.log
SlurmdLogFile=$LOG/slurmd-%n.log
SlurmctldDebug=info
SlurmdDebug=info

# how processes are tracked and memory is limited
$tracking

# virtual nodes: believe this file, not the machine
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
$gres_types

# quick answers
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=1,bf_interval=1,bf_resolution=1,bf_min_age_reserve=0,default_queue_depth=10000,partition_job_depth=0,sched_max_job_start=0,requeue_delay=0
PriorityType=priority/basic
SchedulerTimeSlice=5
KillWait=$KILL_WAIT
OverTimeLimit=0
CompleteWait=0
EpilogMsgTime=0
UnkillableStepTimeout=60
BatchStartTimeout=20
MessageTimeout=$MESSAGE_TIMEOUT
SlurmctldTimeout=30
SlurmdTimeout=$SLURMD_TIMEOUT
InactiveLimit=0
MinJobAge=300
MaxJobCount=20000
MaxArraySize=10001
ReturnToService=2
JobRequeue=1
$accounting
JobCompType=jobcomp/none

NodeName=$all NodeHostname=localhost NodeAddr=127.0.0.1 Port=$(list "" $((BASE+11)) $((BASE+10+NODES))) CPUs=$CPUS RealMemory=$MEM$gres State=UNKNOWN
PartitionName=debug Nodes=$all Default=YES DefaultTime=10 MaxTime=24:00:00 State=UP
PartitionName=short Nodes=$all DefaultTime=1 MaxTime=5 State=UP
$EXTRA
CONF
  mv "$SLURM_CONF.new" "$SLURM_CONF"; chmod 644 "$SLURM_CONF"
  ( umask 077; cat > "$ETC/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$RUN/munge.socket
DbdHost=localhost
DbdPort=$PORT_DBD
SlurmUser=$ME
PidFile=$RUN/slurmdbd.pid
LogFile=$LOG/slurmdbd.log
DebugLevel=info
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$PORT_DB
StorageUser=slurm
StoragePass=$(password)
StorageLoc=slurm_acct_db
CommitDelay=0
CONF
  ); chmod 600 "$ETC/slurmdbd.conf"
}

start_munged() {
  pid_munged >/dev/null && return 0
  [ -s "$ETC/munge.key" ] || ( umask 077; head -c 128 /dev/urandom > "$ETC/munge.key" )
  rm -f "$RUN/munge.socket" "$RUN/munge.socket.lock"
  munged --force --key-file="$ETC/munge.key" --socket="$RUN/munge.socket" --pid-file="$RUN/munged.pid" \
         --log-file="$LOG/munged.log" --seed-file="$RUN/munge.seed" --num-threads=4 </dev/null >>"$LOG/munged.out" 2>&1 || die "munged: $(tail -n 2 "$LOG/munged.out")"
  wait_for 20 munge -S "$RUN/munge.socket" -n || die "munged does not answer: see $LOG/munged.log"
}

mariadb_ready() { mariadb --defaults-file="$ETC/mariadb-client.cnf" --protocol=tcp -h127.0.0.1 -P"$PORT_DB" -e 'select 1' slurm_acct_db; }
make_database() { # from nothing: one that was interrupted is of no use
  rm -rf -- "$D/mysql"
  mkdir -p "$D/mysql"
  mariadb-install-db --no-defaults --user="$ME" --datadir="$D/mysql" --skip-test-db --auth-root-authentication-method=normal >"$LOG/mariadb-install.log" 2>&1 </dev/null
}
start_mariadb() {
  pid_mariadb >/dev/null && return 0
  port_free "$PORT_DB" || die "port $PORT_DB is taken by something else"
  if [ ! -d "$D/mysql/mysql" ]; then
    make_database || { say "mariadb-install-db failed; trying again"; make_database; } || {
      tail -n 5 "$LOG/mariadb-install.log" >&2
      die "mariadb-install-db failed: see $LOG/mariadb-install.log"
    }
  fi
  ( umask 077
    printf '[client]\nuser=slurm\npassword=%s\n' "$(password)" > "$ETC/mariadb-client.cnf"
    cat > "$ETC/mariadb-init.sql" <<SQL
CREATE DATABASE IF NOT EXISTS slurm_acct_db;
CREATE OR REPLACE USER 'slurm'@'localhost' IDENTIFIED BY '$(password)';
CREATE OR REPLACE USER 'slurm'@'127.0.0.1' IDENTIFIED BY '$(password)';
GRANT ALL ON slurm_acct_db.* TO 'slurm'@'localhost';
GRANT ALL ON slurm_acct_db.* TO 'slurm'@'127.0.0.1';
DELETE FROM mysql.global_priv WHERE User = 'root';
FLUSH PRIVILEGES;
SQL
  )
  setsid nohup mariadbd --no-defaults --user="$ME" --datadir="$D/mysql" --socket="$RUN/mysql.sock" --pid-file="$RUN/mariadb.pid" \
     --bind-address=127.0.0.1 --port="$PORT_DB" --skip-name-resolve --init-file="$ETC/mariadb-init.sql" \
     --innodb-buffer-pool-size=64M --innodb-log-file-size=64M --innodb-lock-wait-timeout=900 --innodb-flush-log-at-trx-commit=0 \
     --sync-binlog=0 --performance-schema=OFF --max-connections=50 >>"$LOG/mariadb.log" 2>&1 </dev/null &
  wait_for 90 mariadb_ready || die "MariaDB does not answer: see $LOG/mariadb.log"
}

dbd_ready() { sacctmgr -n -P list cluster; }
start_dbd() {
  pid_dbd >/dev/null && return 0
  port_free "$PORT_DBD" || die "port $PORT_DBD is taken by something else"
  rm -f "$RUN/slurmdbd.pid"
  slurmdbd </dev/null >>"$LOG/slurmdbd.out" 2>&1 || die "slurmdbd: $(tail -n 3 "$LOG/slurmdbd.out")"
  wait_for 90 dbd_ready || die "slurmdbd does not answer: see $LOG/slurmdbd.log"
  sacctmgr -n -P list cluster format=cluster 2>/dev/null | grep -qx sandbox && return 0
  # an account, so that --account has something to name
  { sacctmgr -i add cluster sandbox; sacctmgr -i add account demo cluster=sandbox; sacctmgr -i add user "$ME" account=demo cluster=sandbox; } >>"$LOG/sacctmgr.out" 2>&1
  return 0
}

ctld_ready() { scontrol ping | grep -q 'is UP'; }
start_ctld() {
  pid_ctld >/dev/null && return 0
  port_free "$PORT_CTLD" || die "port $PORT_CTLD is taken by something else"
  rm -f "$RUN/slurmctld.pid"
  slurmctld -f "$SLURM_CONF" </dev/null >>"$LOG/slurmctld.out" 2>&1 || die "slurmctld: $(tail -n 3 "$LOG/slurmctld.out")"
  wait_for 60 ctld_ready || die "slurmctld does not answer: see $LOG/slurmctld.log"
}
start_node() {
  pid_node "$1" >/dev/null && return 0
  port_free "$(port_of "$1")" || die "port $(port_of "$1") is taken by something else"
  rm -f "$RUN/slurmd-$1.pid"; mkdir -p "$D/spool/$1"
  slurmd -f "$SLURM_CONF" -N "$1" </dev/null >>"$LOG/slurmd-$1.out" 2>&1 || die "slurmd $1: $(tail -n 3 "$LOG/slurmd-$1.out")"
}
nodes_ready() {
  local s; s=$(sinfo -h -N -p debug -o '%N %T') || return 1
  [ "$(grep -cE ' (idle|mixed|allocated|completing)$' <<<"$s")" -ge "$NODES" ]
}

do_start() {
  local n
  install_packages
  if pid_ctld >/dev/null && nodes_ready; then say "already running"; return 0; fi
  write_configuration
  start_munged
  if [ "$ACCOUNTING" = 1 ]; then start_mariadb; start_dbd; say "accounting runs"; fi
  start_ctld; say "the controller runs"
  for n in $(nodes); do start_node "$n"; done
  if ! wait_for 20 nodes_ready; then
    for n in $(nodes); do scontrol update nodename="$n" state=resume 2>/dev/null; done
    wait_for 40 nodes_ready || { sinfo -N -l >&2; die "some nodes are not ready: see $LOG/slurmd-*.log"; }
  fi
  say "$NODES nodes are ready"
}

step_pids() { # slurmstepds of our nodes: they own the sockets in our spool folders
  ss -xlpnH 2>/dev/null | grep -F " $D/spool/" | grep -oE 'pid=[0-9]+' | cut -d= -f2 | sort -u
}
kill_tree() { # SIGKILL to a process and all below it: the tasks of a slurmstepd that nobody looks after any more
  local c; for c in $(ps -o pid= --ppid "$1" 2>/dev/null); do kill_tree "$c"; done
  kill -KILL "$1" 2>/dev/null
}
queue_empty() { [ -z "$(squeue -h -o %A)" ]; }
do_stop() {
  local p n
  if pid_ctld >/dev/null && ctld_ready; then
    squeue -h -o %A 2>/dev/null | sort -u | xargs -r -n 200 scancel --quiet 2>/dev/null
    wait_for 8 queue_empty || squeue -h -o %A | sort -u | xargs -r scancel --quiet -s KILL
  fi
  for n in $(cd "$RUN" 2>/dev/null && ls slurmd-*.pid 2>/dev/null | sed 's/^slurmd-//;s/\.pid$//'); do p=$(pid_node "$n") && end_pid "slurmd $n" "$p" 10; done
  for p in $(step_pids); do say "killing slurmstepd $p, left without a node, and its tasks"; kill_tree "$p"; done
  p=$(pid_ctld)    && end_pid slurmctld "$p" 20
  p=$(pid_dbd)     && end_pid slurmdbd "$p" 20
  p=$(pid_mariadb) && end_pid mariadbd "$p" 30
  p=$(pid_munged)  && end_pid munged "$p" 10
  [ -e "$ETC/cgroup.conf" ] && cgroup_clean
  rm -f "$RUN"/*.pid
  return 0
}

# a line for each daemon: name, pid (or nothing), parted by a tab; then a line for each node
do_status() {
  local n
  printf 'daemon\tmunged\t%s\n' "$(pid_munged)"
  [ "$ACCOUNTING" = 1 ] && { printf 'daemon\tmariadbd\t%s\n' "$(pid_mariadb)"; printf 'daemon\tslurmdbd\t%s\n' "$(pid_dbd)"; }
  printf 'daemon\tslurmctld\t%s\n' "$(pid_ctld)"
  for n in $(nodes); do printf 'daemon\tslurmd %s\t%s\n' "$n" "$(pid_node "$n")"; done
  pid_ctld >/dev/null && ctld_ready && sinfo -h -N -p debug -o $'node\t%N\t%T'
  return 0
}

case "${1:-}" in
  start) do_start ;;
  stop) do_stop ;;
  status) do_status ;;
  clean) do_stop; [ -e "$ETC/slurm.conf" ] && [ "$(dirname "$D")" != / ] && rm -rf -- "$D"/{dev,etc,log,mysql,run,spool,state}; true ;;
  node-start) is_node "$2"; start_node "$2" ;;
  node-stop) is_node "$2"; p=$(pid_node "$2") && end_pid "slurmd $2" "$p" 10; true ;;
  node-kill) is_node "$2"; p=$(pid_node "$2") && kill -KILL "$p" && wait_for 5 is_gone "$p"; true ;;
  controller-start) start_ctld ;;
  controller-stop) p=$(pid_ctld) && end_pid slurmctld "$p" 20; true ;;
  *) sed -n '2,9p' "$0" | sed 's/^# \{0,1\}//'; exit 2 ;;
esac

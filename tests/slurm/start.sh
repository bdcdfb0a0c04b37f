#!/bin/sh
# Starts a SLURM of one node on this machine, for tests/test_slurm.py. Needs root and Debian's packages:
#   apt-get install slurm-wlm munge
# Then: . tests/slurm/start.sh FOLDER   (FOLDER gets its configuration and logs; SLURM_CONF is exported)
#       stop it with: kill $(cat FOLDER/*.pid)
folder=${1:-$(mktemp -d)}
mkdir -p "$folder/state" "$folder/spool" && chmod 755 "$folder"
test -f /etc/munge/munge.key || /usr/sbin/mungekey --create
pgrep -x munged >/dev/null || {
  install -d -o munge -g munge /run/munge
  if [ "$(id -u)" = 0 ]; then su -s /bin/sh munge -c /usr/sbin/munged; else munged; fi
}
cat >"$folder/slurm.conf" <<END
ClusterName=test
SlurmctldHost=$(hostname)
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobRequeue=1
KillWait=15
OverTimeLimit=0
ReturnToService=2
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
SlurmctldPort=16817
SlurmdPort=16818
NodeName=$(hostname) CPUs=$(nproc) State=UNKNOWN
PartitionName=test Nodes=$(hostname) Default=YES MaxTime=INFINITE State=UP OverSubscribe=YES
END
export SLURM_CONF="$folder/slurm.conf"
slurmctld -f "$SLURM_CONF" && slurmd -f "$SLURM_CONF"
for _ in 1 2 3 4 5 6 7 8 9 10; do
  sinfo -h -o %T 2>/dev/null | grep -qx idle && break
  sleep 1
done
sinfo

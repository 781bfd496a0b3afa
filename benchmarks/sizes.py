"""How large each measure is: in full, quick (a minute for all), and tiny (for the tests of the benchmarks)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sizes:
    """Numbers of jobs and repetitions."""

    rounds: int
    throughput_jobs: int
    creation_jobs: tuple[int, ...]
    barrier_width: int
    #: (ready, finished) jobs at which a claim is timed
    claim_points: tuple[tuple[int, int], ...]
    claims: int
    startups: int
    parsing_jobs: int
    sleeping_jobs: int
    sleeping_seconds: float
    gap_jobs: int
    chain_jobs: int
    serving_runners: int
    serving_jobs: int
    serving_sizes: tuple[int, ...]
    idle_runners: int
    listeners: int
    failed_jobs: int
    assistant_jobs: int
    assistant_calls: int
    slurm_rounds: int
    slurm_jobs: int
    slurm_counted_jobs: int


FULL = Sizes(
    rounds=5,
    throughput_jobs=1000,
    creation_jobs=(100_000, 1_000_000),
    barrier_width=1000,
    claim_points=((100, 0), (10_000, 0), (100_000, 0), (100_000, 100_000)),
    claims=100,
    startups=15,
    parsing_jobs=10_000,
    sleeping_jobs=100,
    sleeping_seconds=20.0,
    gap_jobs=500,
    chain_jobs=200,
    serving_runners=200,
    serving_jobs=40_000,
    serving_sizes=(1000, 1_000_000),
    idle_runners=10_000,
    listeners=1000,
    failed_jobs=10_000,
    assistant_jobs=100_000,
    assistant_calls=20,
    slurm_rounds=3,
    slurm_jobs=300,
    slurm_counted_jobs=1000,
)
QUICK = Sizes(
    rounds=2,
    throughput_jobs=500,
    creation_jobs=(20_000,),
    barrier_width=300,
    claim_points=((100, 0), (10_000, 0), (10_000, 10_000)),
    claims=30,
    startups=5,
    parsing_jobs=2000,
    sleeping_jobs=50,
    sleeping_seconds=5.0,
    gap_jobs=200,
    chain_jobs=50,
    serving_runners=50,
    serving_jobs=5_000,
    serving_sizes=(1000, 50_000),
    idle_runners=1000,
    listeners=100,
    failed_jobs=2000,
    assistant_jobs=20_000,
    assistant_calls=10,
    slurm_rounds=1,
    slurm_jobs=100,
    slurm_counted_jobs=200,
)
TINY = Sizes(
    rounds=1,
    throughput_jobs=5,
    creation_jobs=(20,),
    barrier_width=4,
    claim_points=((10, 5),),
    claims=2,
    startups=1,
    parsing_jobs=5,
    sleeping_jobs=2,
    sleeping_seconds=1.0,
    gap_jobs=6,
    chain_jobs=3,
    serving_runners=2,
    serving_jobs=30,
    serving_sizes=(40,),
    idle_runners=3,
    listeners=2,
    failed_jobs=5,
    assistant_jobs=20,
    assistant_calls=2,
    slurm_rounds=1,
    slurm_jobs=5,
    slurm_counted_jobs=5,
)

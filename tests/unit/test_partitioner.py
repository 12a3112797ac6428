"""Where a key belongs."""

from random import Random

import pytest
from aiokafka.partitioner import DefaultPartitioner

from streams.kafka.partitioner import partition_of

SEED = 20261128


@pytest.mark.parametrize("length", range(13))
def test_a_key_belongs_where_another_client_puts_it(length: int) -> None:
    """Keys of every length modulo four, with any bytes, go to the partition that aiokafka's partitioner chooses."""
    rng = Random(f"{SEED} {length}")
    places = DefaultPartitioner()
    for _ in range(200):
        key, partitions = rng.randbytes(length), rng.randint(1, 1_000)
        assert partition_of(key, partitions) == places(key, list(range(partitions)), None), (SEED, key, partitions)

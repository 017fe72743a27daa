"""Content stays right under every mixture of ways to read and change it."""

import os

import pytest

from .exerciser import Exerciser
from .users import Task

pytestmark = [pytest.mark.content, pytest.mark.smoke]
SEED = int(os.environ.get("SCRIM_SEED", "20240301"))
ROUNDS = int(os.environ.get("SCRIM_ROUNDS", "1"))


def exercise(folder, seed, steps):
    print(f"SCRIM_SEED={seed}")
    Exerciser(folder, seed).run(steps)


def test_every_way_to_write_shows_in_every_way_to_read(fs):
    for number in range(ROUNDS):
        exercise(fs.mkdir(f"round{number}"), SEED + number, 1500)


def test_three_files_at_once_stay_right(fs):
    tasks = [Task(exercise, fs.mkdir(f"folder{number}"), SEED + 1000 + number, 400 * ROUNDS)
             for number in range(3)]
    for task in tasks:
        task.result(timeout=100)


def test_content_is_the_same_after_a_remount(fs):
    one = Exerciser(fs.dir, SEED + 2000)
    one.run(300)
    fs.mount.remount()
    with open(one.path, "rb") as stream:
        assert stream.read() == bytes(one.model)

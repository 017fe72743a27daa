"""A random stream of calls gives the same on ext4 and on the mount."""

import os
import shutil

import pytest

from .differential import compare

SEED = int(os.environ.get("SCRIM_SEED", "20240229"))
ROUNDS = int(os.environ.get("SCRIM_ROUNDS", "1"))
STEPS = 3000


@pytest.mark.smoke
def test_a_random_stream_of_calls_gives_what_ext4_gives(fs, workspace):
    os.umask(0o022)
    for number in range(ROUNDS):
        seed = SEED + number
        print(f"SCRIM_SEED={seed}")
        oracle = workspace.ext4 / f"oracle-{os.path.basename(fs.dir)}-{number}"
        subject = os.path.join(fs.dir, f"subject{number}")
        for top in (oracle, subject):
            os.mkdir(top)
            os.chmod(top, 0o777)
        compare(str(oracle), subject, seed, STEPS, keeps_set_id=not fs.is_passed_through)
        shutil.rmtree(oracle)
        shutil.rmtree(subject)

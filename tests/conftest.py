import os
import socket
import sys
from pathlib import Path

import pytest
import torch

os.environ.setdefault("WANDB_SILENT", "true")
PROJECT = Path(__file__).parents[1]


def pytest_collection_modifyitems(items):
    """Files that run whole commands take longest: they start first, so that no worker is left with them alone."""
    items.sort(key=lambda item: item.get_closest_marker("command") is None)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture
def command(capsys):
    """Runs a command in this process as its user would: command("align", "method=matching") -> (exit code, out, err)."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.plugins import Plugins

    from convergent.cli.command import told

    def run(name: str, *overrides: str) -> tuple[int, str, str]:
        GlobalHydra.instance().clear()
        Plugins.instance()  # registers the resolver of the project's root, as on the command line
        with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
            config = compose(name, list(overrides), return_hydra_config=True)
            HydraConfig.instance().set_config(config)
            config = compose(name, list(overrides))
        try:
            told(_mains()[name])(config)
            code = 0
        except SystemExit as left:
            code = int(left.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    yield run
    HydraConfig.instance().cfg = None  # what a command line said is no matter of the tests after it


def _mains():
    from convergent.cli.align import align
    from convergent.cli.jobs import AlignJob, TrainJob
    from convergent.cli.prepare import prepare
    from convergent.cli.report import report
    from convergent.cli.train import train

    def train_main(config):
        job = TrainJob.of(config)
        with job.alone():
            if job.begin():
                train(job)

    def align_main(config):
        job = AlignJob.of(config)
        with job.alone():
            if job.begin():
                align(job)

    return {"train": train_main, "align": align_main, "report": report, "prepare": prepare}


@pytest.fixture(scope="session")
def script():
    """The command line of one of the project's scripts."""
    return lambda name, *arguments: [sys.executable, str(PROJECT / "src" / f"{name}.py"), *arguments]


def free_port():
    """A port of this machine that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def planted(n=400, p=6, q=6, noise=0.1, seed=0):
    """Activations of two nets: b's units are a's in another order, each with its own gain, offset and noise."""
    generator = torch.Generator().manual_seed(seed)
    x_na = torch.randn(n, p, generator=generator).double()
    order = torch.randperm(max(p, q), generator=generator)[:q] % p
    gain, offset = torch.rand(q, generator=generator) * 5 + 0.1, torch.randn(q, generator=generator) * 10
    x_nb = (x_na[:, order] + noise * torch.randn(n, q, generator=generator)) * gain + offset
    return x_na, x_nb, order


def blocks(sizes=((4, 3), (2, 5), (6, 2), (3, 3)), noise=0.6, n=1500, seed=0):
    """Activations of two nets whose units come in groups, (units of a, units of b) for each, and the units' groups.

    A group's units are noisy copies of one latent; the units of both nets are shuffled.
    """
    generator = torch.Generator().manual_seed(seed)
    latent_ng = torch.randn(n, len(sizes), generator=generator).double()
    found = []
    for net in (0, 1):
        group_u = torch.arange(len(sizes)).repeat_interleave(torch.tensor([size[net] for size in sizes]))
        group_u = group_u[torch.randperm(len(group_u), generator=generator)]
        noise_nu = torch.randn(n, len(group_u), generator=generator)
        found.append((latent_ng[:, group_u] + noise * noise_nu, group_u))
    (x_na, group_a), (x_nb, group_b) = found
    return x_na, x_nb, group_a, group_b

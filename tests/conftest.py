import copy
import logging
import os
import sys
from functools import partial
from pathlib import Path
from unittest import mock

import pytest
import torch
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository

from convergent.cli.place import register_root

os.environ.setdefault("WANDB_SILENT", "true")
PROJECT = Path(__file__).parents[1]
register_root()  # as every command does when it starts


def pytest_collection_modifyitems(items):
    """Files that run whole commands take longest: they start first, so that no worker is left with them alone."""
    items.sort(key=lambda item: item.get_closest_marker("command") is None)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _conf_is_read_once():
    """Hydra would read and merge the fifty files of conf/ anew for each of a thousand compositions."""
    load, merge = ConfigRepository.load_config, ConfigLoaderImpl._compose_config_from_defaults_list
    loaded, merged = {}, {}

    def once(there, key, repository, make):
        if [source.path for source in repository.get_sources()] != ["hydra.conf", str(PROJECT / "conf"), ""]:
            return make()  # other folders may change
        if key not in there:
            there[key] = make()
        return there[key]

    def load_once(self, config_path):
        return once(loaded, config_path, self, lambda: load(self, config_path))

    def load_copy(self, config_path):  # for merging, which changes what it merges
        return copy.deepcopy(load_once(self, config_path))

    def merge_once(self, defaults, repo):
        with mock.patch.object(ConfigRepository, "load_config", load_copy):
            anew = partial(merge, self, defaults, CachingConfigRepository(repo.delegate))
            return copy.deepcopy(once(merged, repr(defaults), repo, anew))

    with (
        mock.patch.object(ConfigRepository, "load_config", load_once),
        mock.patch.object(ConfigLoaderImpl, "_compose_config_from_defaults_list", merge_once),
    ):
        yield


@pytest.fixture
def command(capsys):
    """Runs a command in this process as its user would: command("align", "method=matching") -> (exit code, out, err)."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import flag_override

    from convergent.cli.command import explains_mistakes
    from convergent.cli.main import perform

    def run(name: str, *overrides: str) -> tuple[int, str, str]:
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
            config = compose(name, list(overrides), return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        with flag_override(config, ["readonly", "struct"], False):  # as Hydra does
            del config["hydra"]
        try:
            explains_mistakes(partial(perform, name))(config)
            code = 0
        except SystemExit as left:
            code = int(left.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    yield run
    HydraConfig.instance().cfg = None  # what a command line said is no matter of the tests after it


@pytest.fixture(autouse=True)
def _loggers_as_they_were():
    """A command that runs in this process sets loggers up, to write to what only its own test captures."""
    loggers = [logging.getLogger(name) for name in (None, "convergent")]
    before = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, handlers, level, propagate in before:
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = propagate


@pytest.fixture(scope="session")
def script():
    """The command line of one of the project's scripts."""
    return lambda name, *arguments: [sys.executable, str(PROJECT / "src" / f"{name}.py"), *arguments]


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
    both = []
    for net in (0, 1):
        group_u = torch.arange(len(sizes)).repeat_interleave(torch.tensor([size[net] for size in sizes]))
        group_u = group_u[torch.randperm(len(group_u), generator=generator)]
        noise_nu = torch.randn(n, len(group_u), generator=generator)
        both.append((latent_ng[:, group_u] + noise * noise_nu, group_u))
    (x_na, group_a), (x_nb, group_b) = both
    return x_na, x_nb, group_a, group_b

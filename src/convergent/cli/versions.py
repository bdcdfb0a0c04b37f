"""What a result was made with."""

import platform
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = "convergent torch torchvision pytorch-lightning hydra-core numpy scipy scikit-learn wandb"


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that numbers depend on."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES.split():
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # run from the source tree, not installed
            continue
    return versions

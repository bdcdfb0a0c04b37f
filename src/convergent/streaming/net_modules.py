"""What is called a module of a net: its own, by their paths, and the encoders that were put on its layers."""

from torch import nn

ENCODERS = "_convergent_encoders"  # of a net, by name; no parts of it, for a sequence would run them


def modules_of(net: nn.Module) -> dict[str, nn.Module]:
    """All modules of a net but itself, those of its encoders among them, by path."""
    modules = {path: module for path, module in net.named_modules(remove_duplicate=False) if path}
    for name, encoder in net.__dict__.get(ENCODERS, {}).items():
        modules |= dict(encoder.named_modules(prefix=name, remove_duplicate=False))
    return modules

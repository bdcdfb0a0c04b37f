"""Architectures that torchvision does not have; any other importable `nn.Module` serves as well."""

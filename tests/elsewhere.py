"""A device that is not the CPU, for machines without one: tensors that say they are on 'meta'.

Every operation is computed on the CPU, but refused where an accelerator would refuse it: when
tensors of both devices meet, or when numbers are read without a copy to the CPU.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

NAME = "meta"
_aten = torch.ops.aten
#: Operations that take tensors of both devices on an accelerator, too.
_ACROSS = (_aten.copy_.default, _aten._to_copy.default)
#: Operations whose indices may be on the CPU.
_BY_INDEX = (_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default)


class There(torch.Tensor):
    """A tensor on that device."""

    @staticmethod
    def __new__(cls, held: torch.Tensor):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=NAME,
        )

    def __init__(self, held: torch.Tensor):
        self.held = held

    def __repr__(self, **_):
        return f"There({self.held})"

    @property
    def data(self):
        return There(self.held)

    @data.setter
    def data(self, other):
        self.held = other.held

    def __getitem__(self, index):
        # PyTorch would put the numbers of a list on this device without asking anybody.
        index = index if isinstance(index, tuple) else (index,)
        index = tuple(torch.tensor(i) if isinstance(i, list) else i for i in index)
        return super().__getitem__(index)

    def tolist(self):
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError(f"{func} of a tensor that is elsewhere")


class Elsewhere(TorchDispatchMode):
    """While active, ``tensor.to('meta')`` and ``device='meta'`` lead to this device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
        comes_there = any(isinstance(x, There) for x in tensors)
        met = tensors[:1] if func in _BY_INDEX else tensors
        mixed = comes_there and any(x.dim() and not isinstance(x, There) for x in met)
        if mixed and func not in _ACROSS:
            raise RuntimeError(f"{func}: tensors on two devices")
        if kwargs.get("device") is not None:
            comes_there = torch.device(kwargs["device"]).type == NAME
            kwargs["device"] = torch.device("cpu")
        held_args, held_kwargs = tree_map_only(There, lambda x: x.held, (args, kwargs))
        result = func(*held_args, **held_kwargs)
        if func._schema.is_mutable:  # What was given is what comes back.
            return kwargs.get("out", args[0]) if func._schema.returns else None
        return tree_map_only(torch.Tensor, There, result) if comes_there else result

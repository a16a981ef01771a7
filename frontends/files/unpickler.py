"""Pickles, read without running anything: a table says what is made where they ask for a class or a function.

Format: `pickletools` of Python's library. Opcodes are those that `torch.save` and its like have written since protocol
2; whatever they build is ours: lists, dicts, tuples, numbers, texts, and records.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from burnish.frontends.config import LoadError, shown
from burnish.frontends.files.window import Window

__all__ = ["Calls", "Inert", "Name", "Record", "Span", "read_pickle"]

_MOST = 1 << 21  # opcodes: 40 of them say what a tensor is

#: what stands for a class or a function, by its name, when it is called
Calls = Mapping[str, "Callable[..., Any]"]


@dataclass(frozen=True, slots=True)
class Name:
    """A class or a function that is named, not called."""

    text: str


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes that are left in the file."""

    offset: int
    size: int


class Record:
    """What an object is read as. What is put into it is dropped, unless a subclass keeps it."""

    def build(self, state: Any) -> None:
        """Take the state of the object, as its `__setstate__` would."""


@dataclass(slots=True, eq=False)
class Inert(Record):
    """An object that no weight is made of, of the class or function of that name."""

    what: str


def read_pickle(data: Window, calls: Calls, persistent: Callable[[Any], Any] | None = None) -> Any:
    """The next object in `data`, of which `persistent` says what stands for what lies outside of it.

    A function that is called must be in `calls`; an object of another class is an `Inert`. Time and memory are bounded
    by the number of opcodes and of bytes. Raises LoadError.
    """
    machine = _Machine(data, calls, persistent)
    try:
        for _ in range(_MOST):
            at, code = data.at, data.take(1)
            if code == pickle.STOP:
                return machine.stack.pop()
            step = _STEPS.get(code)
            if step is None:
                raise LoadError(f"{data.path}: a pickle's opcode {shown(code)} at byte {at} is none that weights need")
            step(machine)
    except (IndexError, KeyError):
        raise LoadError(f"{data.path}: its pickle uses at byte {at} what it has not put there") from None
    except UnicodeDecodeError:
        raise LoadError(f"{data.path}: a text in its pickle, at byte {at}, is not UTF-8") from None
    raise LoadError(f"{data.path}: its pickle is longer than the {_MOST} opcodes that are read")


class _Machine:
    def __init__(self, data: Window, calls: Calls, persistent: Callable[[Any], Any] | None) -> None:
        self.data, self.calls, self.persistent = data, calls, persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def wrong(self, what: str) -> LoadError:
        return LoadError(f"{self.data.path}: its pickle {what}")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def since_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def last(self, count: int) -> tuple[Any, ...]:
        return tuple([self.stack.pop() for _ in range(count)][::-1])

    def check_version(self) -> None:
        if (version := self.data.number(1)) > pickle.HIGHEST_PROTOCOL:
            raise self.wrong(f"is of protocol {version}; read are those up to {pickle.HIGHEST_PROTOCOL}")

    def frame(self) -> None:
        self.data.number(8)  # what follows is read as it comes

    def unpack(self, format: str) -> None:
        self.push(struct.unpack(format, self.data.take(struct.calcsize(format)))[0])

    def integer(self) -> None:
        self.push(int.from_bytes(self.data.take(self.data.number(1)), "little", signed=True))

    def text(self, width: int, encoding: str) -> None:
        self.push(self.data.take(self.data.number(width)).decode(encoding))

    def bytes(self, width: int) -> None:
        length = self.data.number(width)
        self.push(Span(self.data.skip(length), length))

    def named(self) -> None:
        module, name = self.data.line(), self.data.line()
        self.push(Name(f"{module.decode()}.{name.decode()}"))

    def named_on_stack(self) -> None:
        module, name = self.last(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise self.wrong("names a class by what is no text")
        self.push(Name(f"{module}.{name}"))

    def outside(self) -> None:
        if self.persistent is None:
            raise self.wrong("refers to what lies outside of it")
        self.push(self.persistent(self.stack.pop()))

    def call(self) -> None:
        name, arguments = self.last(2)
        if not isinstance(name, Name) or not isinstance(arguments, tuple):
            raise self.wrong("calls what is no function")
        made = self.calls.get(name.text)
        if made is None:
            do = "nothing is run. Save the weights alone: `torch.save(model.state_dict(), …)`"
            raise self.wrong(f"calls {shown(name.text)}, which is none of what weights are made of; {do}")
        try:
            self.push(made(*arguments))
        except LoadError:
            raise
        except (TypeError, ValueError):
            raise self.wrong(f"calls {shown(name.text)} with what it does not take") from None

    def instance(self) -> None:
        name, _ = self.last(2)
        if not isinstance(name, Name):
            raise self.wrong("makes an object of what is no class")
        self.push(Inert(name.text))

    def build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Record):
            target.build(state)
        elif not isinstance(target, dict):  # the attributes of an OrderedDict: versions of modules
            raise self.wrong("gives a state to what has none")

    def append(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target += items
        elif not isinstance(target, Record):
            raise self.wrong("adds items to what is no list")

    def store(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if len(items) % 2 or not isinstance(target, dict | Record):
            raise self.wrong("stores items in what is no dict")
        if isinstance(target, Record):
            return
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | None) and not (isinstance(key, int) and abs(key) < 1 << 60):
                key = Inert("a key")  # by identity: a file could nest what is hashed, or choose hashes that are alike
            if key in target:
                raise self.wrong(f"has the key {shown(key)} twice in one dict")
            target[key] = value


_STEPS: Mapping[bytes, Callable[[_Machine], None]] = {
    pickle.PROTO: _Machine.check_version,
    pickle.FRAME: _Machine.frame,
    pickle.BINPUT: lambda m: m.memo.update({m.data.number(1): m.stack[-1]}),
    pickle.LONG_BINPUT: lambda m: m.memo.update({m.data.number(4): m.stack[-1]}),
    pickle.MEMOIZE: lambda m: m.memo.update({len(m.memo): m.stack[-1]}),
    pickle.BINGET: lambda m: m.push(m.memo[m.data.number(1)]),
    pickle.LONG_BINGET: lambda m: m.push(m.memo[m.data.number(4)]),
    pickle.MARK: lambda m: m.marks.append(len(m.stack)),
    pickle.NONE: lambda m: m.push(None),
    pickle.NEWTRUE: lambda m: m.push(True),
    pickle.NEWFALSE: lambda m: m.push(False),
    pickle.BININT: lambda m: m.unpack("<i"),
    pickle.BININT1: lambda m: m.unpack("<B"),
    pickle.BININT2: lambda m: m.unpack("<H"),
    pickle.LONG1: _Machine.integer,
    pickle.BINFLOAT: lambda m: m.unpack(">d"),
    pickle.BINUNICODE: lambda m: m.text(4, "utf-8"),
    pickle.SHORT_BINUNICODE: lambda m: m.text(1, "utf-8"),
    pickle.BINUNICODE8: lambda m: m.text(8, "utf-8"),
    pickle.BINSTRING: lambda m: m.text(4, "latin-1"),
    pickle.SHORT_BINSTRING: lambda m: m.text(1, "latin-1"),
    pickle.BINBYTES: lambda m: m.bytes(4),
    pickle.SHORT_BINBYTES: lambda m: m.bytes(1),
    pickle.BINBYTES8: lambda m: m.bytes(8),
    pickle.EMPTY_DICT: lambda m: m.push({}),
    pickle.EMPTY_LIST: lambda m: m.push([]),
    pickle.EMPTY_SET: lambda m: m.push(Inert("a set")),
    pickle.EMPTY_TUPLE: lambda m: m.push(()),
    pickle.TUPLE: lambda m: m.push(tuple(m.since_mark())),
    pickle.TUPLE1: lambda m: m.push(m.last(1)),
    pickle.TUPLE2: lambda m: m.push(m.last(2)),
    pickle.TUPLE3: lambda m: m.push(m.last(3)),
    pickle.APPEND: lambda m: m.append([m.stack.pop()]),
    pickle.APPENDS: lambda m: m.append(m.since_mark()),
    pickle.ADDITEMS: lambda m: m.append(m.since_mark()),
    pickle.SETITEM: lambda m: m.store(list(m.last(2))),
    pickle.SETITEMS: lambda m: m.store(m.since_mark()),
    pickle.GLOBAL: _Machine.named,
    pickle.STACK_GLOBAL: _Machine.named_on_stack,
    pickle.BINPERSID: _Machine.outside,
    pickle.REDUCE: _Machine.call,
    pickle.NEWOBJ: _Machine.instance,
    pickle.BUILD: _Machine.build,
}

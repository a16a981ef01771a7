"""What XLA calls: a handler of its foreign function interface that runs a function on XLA's threads.

Structures are read as words, as version 0.3 of `xla/ffi/api/c_api.h` lays them out. The call's only attribute is an
array of i64:

    items, items that are worth a thread's while, bytes of scratch memory of a thread, threads, shares and patience
    (see `driver`), arguments, places,
    the arguments of the function,
    and for each place: which argument is an address; of which buffer (operands, then results), or of the function
    -1, -2, … in the table; bytes from its begin; the buffer that holds a block's number (i32), or -1; bytes of a block

The unit is bound to a table of functions' addresses: the one that it runs, and those that this one calls.

The last result is memory that the call works in, of `WORK` bytes and then the arguments and the threads' scratch
memory, both filled up to 64 bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

from burnish.backends.kernels.simd import driver
from burnish.backends.kernels.simd import words as w
from burnish.backends.kernels.simd.instructions import Instructions
from burnish.backends.native.image import BOUND

__all__ = ["functions"]

MAJOR, MINOR = 0, 3
METADATA, EXECUTE = 1, 3  # XLA_FFI_Extension_Metadata, XLA_FFI_ExecutionStage_EXECUTE
HEAD, PLACE = 8, 5  # words
PHASE, CALL, COUNTS, WORK = 64, 96, 128, 256  # where they lie after the program's eight words; and where arguments do
CLOSED = 1 << 32
JOB = 96  # bytes: helpers that are at work, or CLOSED; who holds it; program; scratch memory, its size; threads; a task


def functions(isa: Instructions) -> dict[str, Callable[..., Any]]:
    """`handle(call frame)` is the handler; `help(job)` what it gives XLA's threads to do."""
    word, store_word, load_word, add_word, call = w.word, w.store_word, w.load_word, w.add_word, w.call
    i32_at, copy_bytes, pause, sleep = w.i32_at, w.copy_bytes, w.pause, w.sleep
    table, helper, malloc, free = (w.address_of(name) for name in (BOUND, "help", "malloc", "free"))
    begin, run = (njit(nogil=True)(f) for f in driver.functions(isa).values())

    @njit(nogil=True)
    def release(job: int) -> None:
        if add_word(job + 8, -1) == 1:
            call(free(), job, 0, 0, 0)

    def help(job: int, _: int, __: int, ___: int) -> None:
        """One that comes when all is done finds it closed, and touches nothing else."""
        if add_word(job, 1) < CLOSED:
            thread = add_word(job + 40, 1)
            run(word(job + 16), 1, 0, word(job + 24) + thread * word(job + 32))
        add_word(job, -1)
        release(job)

    @njit(nogil=True)
    def ask(frame: int, job: int, helpers: int) -> None:
        """Have XLA's threads help, if it has any."""
        api, task = word(frame + 16), job + 48
        store_word(task, 40)
        store_word(task + 8, 0)
        store_word(task + 16, word(frame + 24))
        store_word(task + 24, helper())
        store_word(task + 32, job)
        for _ in range(helpers):
            add_word(job + 8, 1)
            error = call(word(api + 136), task, 0, 0, 0)  # XLA_FFI_ThreadPool_Schedule
            if error:
                add_word(job + 8, -1)
                store_word(task, 24)
                store_word(task + 16, error)
                call(word(api + 64), task, 0, 0, 0)  # XLA_FFI_Error_Destroy
                return

    @njit(nogil=True)
    def data(frame: int, buffer: int) -> Any:
        """Where an operand or a result lies, or a function."""
        operands = word(frame + 56)
        if buffer < 0:
            return word(table() - 8 * buffer)
        if buffer < operands:
            return word(word(word(frame + 72) + 8 * buffer) + 24)
        return word(word(word(frame + 112) + 8 * (buffer - operands)) + 24)

    @njit(nogil=True)
    def lay_out(frame: int, given: int, work: int) -> None:
        """The program, and the arguments with addresses in their places."""
        count, places, arguments = word(given + 48), word(given + 56), work + WORK
        store_word(work, 1)
        store_word(work + 8, work + PHASE)
        store_word(work + 16, work + COUNTS)
        store_word(work + 24, 1)
        store_word(work + 32, word(given + 40))
        store_word(work + 40, word(given + 32))
        store_word(work + PHASE, word(given))
        store_word(work + PHASE + 8, word(given + 8))
        store_word(work + PHASE + 16, work + CALL)
        store_word(work + PHASE + 24, 1)
        store_word(work + CALL, word(table()))
        store_word(work + CALL + 8, arguments)
        copy_bytes(arguments, given + 8 * HEAD, 8 * count)
        place = given + 8 * (HEAD + count)
        for _ in range(places):
            at = data(frame, word(place + 8)) + word(place + 16)
            if word(place + 24) >= 0:
                at += i32_at(data(frame, word(place + 24))) * word(place + 32)
            store_word(arguments + 8 * word(place), at)
            place += 8 * PLACE

    def handle(frame: int, _: int, __: int, ___: int) -> None:
        extension = word(frame + 8)
        if extension and i32_at(extension + 8) == METADATA:
            store_word(word(extension + 24) + 24, MINOR << 32 | MAJOR)
            return
        if i32_at(frame + 32) != EXECUTE:
            return
        given = word(word(word(frame + 160)) + 16)
        work = data(frame, word(frame + 56) + word(frame + 96) - 1)
        lay_out(frame, given, work)
        begin(work, 0, 0, 0)
        scratch, each = work + WORK + (8 * word(given + 48) + 63 & -64), word(given + 16) + 63 & -64
        useful = (word(given) + word(given + 8) - 1) // word(given + 8)
        helpers = min(word(given + 24), useful) - 1
        if helpers <= 0:
            run(work, 1, 0, scratch)
            return
        job = call(malloc(), JOB, 0, 0, 0)
        store_word(job, 0)
        store_word(job + 8, 1)
        store_word(job + 16, work)
        store_word(job + 24, scratch)
        store_word(job + 32, each)
        store_word(job + 40, 1)
        ask(frame, job, helpers)
        run(work, 1, 0, scratch)
        looks = 0
        busy = add_word(job, CLOSED)
        while busy & 0xFFFFFFFF:  # memory that helpers work in is XLA's again afterwards
            looks += 1
            if looks < word(given + 40):
                pause()
            else:
                sleep()
            busy = load_word(job)
        release(job)

    return {"handle": handle, "help": help}

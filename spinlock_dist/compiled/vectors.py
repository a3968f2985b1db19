"""Products of small matrices with their tiles in registers, written in LLVM's vector instructions.

Of a loop over the 64 rows of a batch the compiler makes four turns, spends as long on what comes before and after them,
and stores every sum after a few inputs. Here a tile of results stays in registers until all is added up that it sums.

Arrays are `[_, R]` of float32 and their rows contiguous; weights may have any strides. Of R as many are used as `rows`
says; the others are neither read nor written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

FLOAT, INT, SHORT = ir.FloatType(), ir.IntType(64), ir.IntType(32)


def _lanes() -> int:
    """Float32 numbers in one of this processor's registers."""
    features = llvmlite.binding.get_host_cpu_features()
    return 16 if features.get("avx512f") else 8 if features.get("avx") else 4


LANES = _lanes()
VECTOR = ir.VectorType(FLOAT, LANES)
ZERO = ir.Constant(VECTOR, [0.0] * LANES)
ACROSS = 2 if LANES == 8 else 4
"""Registers of rows that are in work at once: with `HIGH` outputs each as many sums as leave registers for the rest."""
HIGH, HIGHEST = 4, 8
"""Outputs that are in work at once, and where a single register of rows is."""


class _Writer:
    """Writes instructions that go over arrays; an array is named by its place among the arguments."""

    def __init__(self, context: Any, builder: Any, kinds: Sequence[Any], values: Sequence[Any]):
        self.builder = builder
        arrays = [make_array(kind)(context, builder, value) for kind, value in zip(kinds, values, strict=False)]
        self.starts = [array.data for array in arrays]
        self.shapes = [cgutils.unpack_tuple(builder, array.shape) for array in arrays]
        self.strides = [cgutils.unpack_tuple(builder, array.strides) for array in arrays]

    def at(self, array: int, *index: Any) -> Any:
        """The address of a number."""
        products = [self.builder.mul(*each) for each in zip(index, self.strides[array], strict=True)]
        offset = products[0] if len(products) == 1 else self.builder.add(*products)
        start = self.builder.bitcast(self.starts[array], ir.IntType(8).as_pointer())
        return self.builder.bitcast(self.builder.gep(start, [offset]), FLOAT.as_pointer())

    def load(self, pointer: Any, mask: Any = None) -> Any:
        """A register from an address on; 0 where the mask is."""
        pointer = self.builder.bitcast(pointer, VECTOR.as_pointer())
        if mask is None:
            return self.builder.load(pointer, align=4)
        kind = ir.FunctionType(VECTOR, [pointer.type, SHORT, mask.type, VECTOR])
        return self._call(f"llvm.masked.load.v{LANES}f32.p0", kind, [pointer, SHORT(4), mask, ZERO])

    def store(self, value: Any, pointer: Any, mask: Any = None) -> None:
        """Put a register at an address, where the mask is 1."""
        pointer = self.builder.bitcast(pointer, VECTOR.as_pointer())
        if mask is None:
            self.builder.store(value, pointer, align=4)
        else:
            kind = ir.FunctionType(ir.VoidType(), [VECTOR, pointer.type, SHORT, mask.type])
            self._call(f"llvm.masked.store.v{LANES}f32.p0", kind, [value, pointer, SHORT(4), mask])

    def spread(self, value: Any, kind: Any = VECTOR) -> Any:
        """A register full of one number."""
        empty = ir.Constant(kind, ir.Undefined)
        one = self.builder.insert_element(empty, value, SHORT(0))
        return self.builder.shuffle_vector(one, empty, ir.Constant(ir.VectorType(SHORT, LANES), [0] * LANES))

    def first(self, count: Any) -> Any:
        """The mask of the first `count` lanes."""
        kind = ir.VectorType(INT, LANES)
        return self.builder.icmp_signed("<", ir.Constant(kind, list(range(LANES))), self.spread(count, kind))

    def add_product(self, a: Any, b: Any, total: Any) -> Any:
        """a * b + total, lane by lane."""
        return self._call(f"llvm.fmuladd.v{LANES}f32", ir.FunctionType(VECTOR, [VECTOR] * 3), [a, b, total])

    def over_lanes(self, value: Any, choose: Callable[[Any, Any], Any]) -> Any:
        """`choose` from all lanes, halving them; what it is in every lane."""
        apart = LANES // 2
        while apart:
            lanes = ir.Constant(ir.VectorType(SHORT, LANES), [lane ^ apart for lane in range(LANES)])
            value = choose(value, self.builder.shuffle_vector(value, value, lanes))
            apart //= 2
        return value

    def _call(self, name: str, kind: Any, values: Sequence[Any]) -> Any:
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), values)

    def loop(
        self,
        start: Any,
        stop: Any,
        step: int,
        body: Callable[..., Sequence[Any] | None],
        carried: Sequence[Any] = (),
    ) -> tuple[list[Any], Any]:
        """`body(index, *values)` while a whole step is left; returns the values it ends with, and the index."""
        builder, before = self.builder, self.builder.block
        head, inside, after = (builder.append_basic_block(name) for name in ("head", "inside", "after"))
        last = builder.sub(stop, INT(step))
        builder.branch(head)
        builder.position_at_end(head)
        index, *values = (builder.phi(value.type) for value in (start, *carried))
        builder.cbranch(builder.icmp_signed("<=", index, last), inside, after)
        builder.position_at_end(inside)
        moved = [builder.add(index, INT(step)), *(body(index, *values) or ())]
        for phi, first, value in zip((index, *values), (start, *carried), moved, strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(value, builder.block)
        builder.branch(head)
        builder.position_at_end(after)
        return values, index

    def tiles(self, total: Any, highest: int, body: Callable[[list[Any]], None]) -> None:
        """`body(places)` for all places below `total`, so many at a time: `highest`, half of it, and so on to 1."""
        place, height = INT(0), highest
        while height:
            steps = [INT(each) for each in range(height)]
            _, place = self.loop(
                place, total, height, lambda at, steps=steps: body([self.builder.add(at, step) for step in steps])
            )
            height //= 2


def _matrices(*kinds: Any) -> bool:
    return all(isinstance(kind, types.Array) and kind.ndim == 2 and kind.dtype == types.float32 for kind in kinds)


@intrinsic
def mapped(typing_context, weights, x, out, rows):
    """out `[O, R]` += weights `[I, O]`.T @ x `[I, R]`."""
    del typing_context

    def write(context, builder, signature, values):
        writer, (w, x, out) = _Writer(context, builder, signature.args[:3], values), range(3)
        rows = context.cast(builder, values[3], signature.args[3], types.intp)
        inputs, outputs = writer.shapes[w]

        def tile(places: list[Any], columns: list[Any], mask: Any) -> None:
            cells = [writer.at(out, place, column) for place in places for column in columns]

            def add(i: Any, *sums: Any) -> list[Any]:
                seen = [writer.load(writer.at(x, i, column), mask) for column in columns]
                factors = [writer.spread(builder.load(writer.at(w, i, place))) for place in places]
                pairs = [(factor, each) for factor in factors for each in seen]
                return [writer.add_product(*pair, total) for pair, total in zip(pairs, sums, strict=True)]

            sums, _ = writer.loop(INT(0), inputs, 1, add, [writer.load(cell, mask) for cell in cells])
            for value, cell in zip(sums, cells, strict=True):
                writer.store(value, cell, mask)

        def part(row: Any, across: int = 1, mask: Any = None) -> None:
            columns = [builder.add(row, INT(LANES * step)) for step in range(across)]
            writer.tiles(outputs, HIGH if across > 1 else HIGHEST, lambda places: tile(places, columns, mask))

        _, row = writer.loop(INT(0), rows, LANES * ACROSS, lambda row: part(row, ACROSS))
        _, row = writer.loop(row, rows, LANES, part)
        with builder.if_then(builder.icmp_signed("<", row, rows)):
            part(row, mask=writer.first(builder.sub(rows, row)))
        return context.get_dummy_value()

    return (types.void(weights, x, out, rows), write) if _matrices(weights, x, out) else None


@intrinsic
def outer(typing_context, x, g, weights, rows):
    """weights `[I, O]` += x `[I, R]` @ g `[O, R]`.T."""
    del typing_context

    def write(context, builder, signature, values):
        writer, (x, g, w) = _Writer(context, builder, signature.args[:3], values), range(3)
        rows = context.cast(builder, values[3], signature.args[3], types.intp)
        inputs, outputs = writer.shapes[w]

        def tile(downs: list[Any], alongs: list[Any]) -> None:
            def add(row: Any, *sums: Any, mask: Any = None) -> list[Any]:
                left, right = (
                    [writer.load(writer.at(a, p, row), mask) for p in ps] for a, ps in ((x, downs), (g, alongs))
                )
                pairs = [(a, b) for a in left for b in right]
                return [writer.add_product(*pair, total) for pair, total in zip(pairs, sums, strict=True)]

            sums, row = writer.loop(INT(0), rows, LANES, add, [ZERO] * (len(downs) * len(alongs)))
            before, left_over = builder.block, builder.sub(rows, row)
            with builder.if_then(builder.icmp_signed(">", left_over, INT(0))):
                added, inside = add(row, *sums, mask=writer.first(left_over)), builder.block
            totals = [builder.phi(VECTOR) for _ in sums]
            for total, whole, more in zip(totals, sums, added, strict=True):
                total.add_incoming(whole, before)
                total.add_incoming(more, inside)
            cells = [writer.at(w, down, along) for down in downs for along in alongs]
            for value, cell in zip(_sums_over_lanes(writer, totals), cells, strict=True):
                builder.store(builder.fadd(builder.load(cell), value), cell)

        writer.tiles(inputs, HIGH, lambda downs: writer.tiles(outputs, HIGH, lambda alongs: tile(downs, alongs)))
        return context.get_dummy_value()

    return (types.void(x, g, weights, rows), write) if _matrices(x, g, weights) else None


@intrinsic
def nearness(typing_context, x, others, found, count):
    """found `[C]`: minus the squared distances of x `[1, R]` from the first `count` of others `[C, R]`. R is a whole
    number of registers."""
    del typing_context

    def write(context, builder, signature, values):
        writer, (x, others, found) = _Writer(context, builder, signature.args[:3], values), range(3)
        count = context.cast(builder, values[3], signature.args[3], types.intp)
        numbers = writer.shapes[others][1]

        def tile(places: list[Any]) -> None:
            def add(column: Any, *sums: Any) -> list[Any]:
                wanted = writer.load(writer.at(x, INT(0), column))
                errors = [builder.fsub(wanted, writer.load(writer.at(others, place, column))) for place in places]
                return [writer.add_product(e, builder.fneg(e), total) for e, total in zip(errors, sums, strict=True)]

            sums, _ = writer.loop(INT(0), numbers, LANES, add, [ZERO] * len(places))
            for value, place in zip(_sums_over_lanes(writer, sums), places, strict=True):
                builder.store(value, writer.at(found, place))

        writer.tiles(count, HIGHEST, tile)
        return context.get_dummy_value()

    return (types.void(x, others, found, count), write) if _matrices(x, others) else None


@intrinsic
def largest(typing_context, x, rows, places, count):
    """places `[C]`: where the `count` largest numbers are in the first `rows` of x `[_, K]`, read one after the other.

    Largest first; of equal numbers only the first is found, and 0 where there are no more. x is contiguous, K a whole
    number of registers, places int64.
    """
    del typing_context

    def write(context, builder, signature, values):
        writer, lanes = _Writer(context, builder, (x, places), (values[0], values[2])), ir.VectorType(SHORT, LANES)
        rows, count = (context.cast(builder, values[at], signature.args[at], types.intp) for at in (1, 3))
        numbers = builder.mul(rows, writer.shapes[0][1])
        own, none = ir.Constant(lanes, list(range(LANES))), ir.Constant(lanes, [2**31 - 1] * LANES)
        least = ir.Constant(VECTOR, [float("-inf")] * LANES)

        def find(turn: Any, before: Any) -> list[Any]:
            def compare(at: Any, best: Any, place: Any) -> list[Any]:
                value = writer.load(writer.at(0, INT(0), at))
                value = builder.select(builder.fcmp_ordered("<", value, before), value, least)
                here = builder.add(own, writer.spread(builder.trunc(at, SHORT), lanes))
                better = builder.fcmp_ordered(">", value, best)
                return [builder.select(better, value, best), builder.select(better, here, place)]

            (best, place), _ = writer.loop(INT(0), numbers, LANES, compare, [least, own])
            most = writer.over_lanes(best, lambda a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))
            among = builder.select(builder.fcmp_ordered("==", best, most), place, none)
            first = writer.over_lanes(among, lambda a, b: builder.select(builder.icmp_unsigned("<", a, b), a, b))
            found = builder.zext(builder.extract_element(first, SHORT(0)), INT)
            found = builder.select(builder.icmp_unsigned("<", found, numbers), found, INT(0))  # 0: not a number
            builder.store(found, builder.bitcast(writer.at(1, turn), INT.as_pointer()))
            return [most]

        writer.loop(INT(0), count, 1, find, [ir.Constant(VECTOR, [float("inf")] * LANES)])
        return context.get_dummy_value()

    return (types.void(x, rows, places, count), write) if _matrices(x) else None


def _sums_over_lanes(writer: _Writer, vectors: Sequence[Any]) -> list[Any]:
    """The sum of the numbers in every register: as many registers as have lanes are added up together, in halves."""
    found: list[Any] = []
    for start in range(0, len(vectors), LANES):
        group = list(vectors[start : start + LANES])
        count, apart = len(group), 1
        while apart < LANES:
            group += [ZERO] * (len(group) % 2)
            group = [_halves(writer, group[at], group[at + 1], apart) for at in range(0, len(group), 2)]
            apart *= 2
        found += [writer.builder.extract_element(group[0], SHORT(lane)) for lane in range(count)]
    return found


def _halves(writer: _Writer, a: Any, b: Any, apart: int) -> Any:
    """Sums of lanes that lie `apart`: of `a` where that bit of a lane's number is 0, of `b` where it is 1."""
    kind, low, high = ir.VectorType(SHORT, LANES), [], []
    for lane in range(LANES):
        first = not lane & apart
        low.append(lane if first else LANES + (lane ^ apart))
        high.append(lane ^ apart if first else LANES + lane)
    parts = [writer.builder.shuffle_vector(a, b, ir.Constant(kind, each)) for each in (low, high)]
    return writer.builder.fadd(*parts)

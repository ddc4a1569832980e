"""Wire ``powersgd``: each matrix travels as two narrow factors; what they lack is added to the next step's gradient."""

from collections.abc import Mapping
from typing import ClassVar

from common.config import RunConfig
from common.errors import EXIT_USAGE, JobError
from ps.sync.wires.direct import DirectSum
from ps.sync.wires.low_rank import SAVING, LowRank, compresses
from ps.sync.wires.packet_wire import PacketWire, WireSetup


class PowerSgdWire(PacketWire):
    """Two small sums a step: status, biases, small matrices and left factors; then right factors.

    See LowRank. The right factors that a step starts from are not saved: they are drawn from the seed at the start, on
    resuming, and where ranks go on without a dead one.
    """

    feeds_back: ClassVar[bool] = True
    options: ClassVar[tuple[str, ...]] = ("wire_rank",)
    vectors: ClassVar[float] = 2.5

    def __init__(self, setup: WireSetup) -> None:
        super().__init__(setup)
        assert self.error is not None
        config = setup.config
        self._low_rank = LowRank(self.packet, setup.shapes, self.error, config.wire_rank, config.seed)
        vectors = (self._low_rank.factors, self._low_rank.right_factors)
        self._sums = [DirectSum(self.comm, vector) for vector in vectors]
        first, second = (one.sent_to for one in self._sums)
        self.sent_to = {rank: n_bytes + second[rank] for rank, n_bytes in first.items()}

    @classmethod
    def check(cls, shapes: Mapping[str, tuple[int, ...]], config: RunConfig) -> None:
        """See PacketWire."""
        if not any(compresses(shape, config.wire_rank) for shape in shapes.values()):
            raise JobError(
                f"wire: powersgd finds nothing to compress in this model: no matrix is larger than {SAVING} times its "
                f"factors of rank {config.wire_rank}; give a smaller --wire-rank, or --wire float32",
                EXIT_USAGE,
            )

    def accept(self) -> None:
        """See PacketWire."""
        if self.comm.size > 1:
            self._low_rank.accept()
        else:
            super().accept()

    def _sum(self) -> None:
        self._low_rank.first()
        self._sums[0].sum()
        self._low_rank.second()
        self._sums[1].sum()
        self._low_rank.finish()


WIRE = PowerSgdWire

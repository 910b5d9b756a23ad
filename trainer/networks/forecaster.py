"""The forecaster: from frames to the frames that follow. It can start at any point."""

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.networks.conv_recurrent import TwoScaleRecurrent
from trainer.networks.flow import FlowPyramid
from trainer.networks.luma import grey
from trainer.networks.motion import MotionDecoder, MotionEncoder
from trainer.networks.painting import PaintingDecoder, PairFeatures, PictureBefore
from trainer.networks.recurrent import Cell
from trainer.networks.warping import enlarge


class Forecaster(nn.Module):
    """What a video shows next: a recurrent encoder watches, a recurrent decoder goes on where it stopped.

    It takes frames of any size and pads them internally to multiples of 8. For real video it moves the last frame
    (MotionDecoder); bright things on black, in grey, it paints anew (PaintingDecoder). The state (B,S), float32, is the
    encoder's two states ++ what the decoder needs of the picture before the last (its `trace`) ++ the last picture ++
    the forecast for the one after it ++ the evidence of how far forecasts can be trusted ++ the number of frames seen.

    An answer departs from the last picture only as far as past forecasts were right. Each observed frame shows, place
    by place, what share of the change forecast for it came true (by least squares, in [0, 1]); only that share of a
    forecast change is answered. Where nothing moves, or where the network does not understand what it sees, the answer
    is a copy of the last picture. Further ahead the change is damped like a trend (Gardner and McKenzie 1985): if a
    share of one step's change comes true, that share of it holds for the next step. Painted frames are answered as they
    are, since a copy of the last picture would certainly be wrong.
    """

    max_pixel: Final[float] = 255.0
    trust_decay: Final[float] = 0.9
    """What is kept of the evidence, per frame."""
    trust_shared: Final[float] = 0.25
    """Weight of the whole picture's evidence when one place is judged."""
    trust_floor: Final[float] = 1e-6
    """Mean square of changes too small to be evidence, for pictures in [0,1]: a quarter of a level of 255."""

    def __init__(self, cell: Cell, painted: bool, num_features: int, quarter_size: int, eighth_size: int) -> None:
        """`painted`: bright things on black; else any video. The sizes are the channels of features and recurrences."""
        super().__init__()
        self.painted = painted
        self.num_colours = 1 if painted else 3
        self.encoder = PairFeatures(1, num_features) if painted else MotionEncoder(3, num_features)
        self.pyramid = PictureBefore() if painted else FlowPyramid()
        self.recurrent = TwoScaleRecurrent(cell, self.encoder.num_features, quarter_size, eighth_size)
        decoder = PaintingDecoder if painted else MotionDecoder
        self.decoder = decoder(cell, self.num_colours, num_features, quarter_size, eighth_size)

    def pictures(self, frames: Tensor) -> Tensor:
        """frames (B,T,H,W,3) uint8 -> (B,T,C,H,W) float32 in [0,1], padded to multiples of 8 by the border."""
        batch_size, num_steps, height, width = frames.shape[0], frames.shape[1], frames.shape[2], frames.shape[3]
        pictures = frames.permute(0, 1, 4, 2, 3).flatten(0, 1).to(torch.float32) / self.max_pixel  # (B*T,3,H,W)
        if self.num_colours == 1:
            pictures = grey(pictures)
        pictures = F.pad(pictures, [0, -width % 8, 0, -height % 8], mode="replicate")
        return pictures.reshape(batch_size, num_steps, self.num_colours, pictures.shape[2], pictures.shape[3])

    def state_shapes(self, height: int, width: int) -> list[list[int]]:
        """(C,H,W) of each map in the state, for pictures of that size, padded."""
        quarter, eighth = self.recurrent.quarter.state_channels, self.recurrent.eighth.state_channels
        return [
            [quarter, height // 4, width // 4],
            [eighth, height // 8, width // 8],
            [self.decoder.num_traces, height, width],
            [self.num_colours, height, width],
            [self.num_colours, height, width],
            [2, height // 8, width // 8],
            [1, 1, 1],
        ]

    def unpack(self, state: Tensor, height: int, width: int) -> list[Tensor]:
        """state (B,S) -> its maps (B,C,H,W), in the order of `state_shapes`."""
        shapes = self.state_shapes(height, width)
        parts = torch.split(state, [shape[0] * shape[1] * shape[2] for shape in shapes], dim=1)
        return [part.reshape(-1, shape[0], shape[1], shape[2]) for part, shape in zip(parts, shapes)]  # noqa: B905

    def watch(
        self, pictures: Tensor, lengths: Tensor, before: Tensor, quarter: Tensor, eighth: Tensor
    ) -> tuple[Tensor, Tensor]:
        """pictures (B,T,C,H,W), lengths (B,), the pictures before each (B,T,C,H,W), the recurrences' two states.

        -> the recurrences' two states after each step (B,T,...).
        """
        features = self.encoder(pictures.flatten(0, 1), before.flatten(0, 1))
        features = features.reshape(pictures.shape[0], pictures.shape[1], -1, features.shape[2], features.shape[3])
        quarters, eighths = self.recurrent(features, lengths, quarter, eighth)
        return quarters, eighths

    def judge(self, forecast: Tensor, before: Tensor, picture: Tensor) -> Tensor:
        """The forecast for a picture, the picture before it, the picture (N,C,H,W) -> evidence (N,2,H/8,W/8).

        How much of the forecast change came true, and how much change was forecast: their ratio is the share to trust.
        """
        change, truth = forecast - before, picture - before
        products = torch.cat(((change * truth).mean(1, keepdim=True), (change * change).mean(1, keepdim=True)), dim=1)
        return F.avg_pool2d(products, 8)

    def trust(self, evidence: Tensor) -> Tensor:
        """evidence (N,2,H/8,W/8) -> the share of a forecast change that is answered (N,1,H,W), in [0,1]."""
        if self.painted:
            return torch.ones_like(enlarge(evidence[:, :1], 8))
        near = F.avg_pool2d(evidence, 3, 1, 1, count_include_pad=False)
        evidence = near + self.trust_shared * evidence.mean(dim=(2, 3), keepdim=True)
        share = evidence[:, 0:1] / (evidence[:, 1:2] + self.trust_floor)
        return enlarge(share.clamp(0.0, 1.0), 8)

    def damped(self, share: Tensor, horizon: int) -> Tensor:
        """The trusted share of the next step's change (N,1,H,W) -> of the change up to each step (N,horizon,1,H,W).

        The latter is the mean of the former's powers.
        """
        steps = torch.arange(1, horizon + 1, device=share.device, dtype=share.dtype).reshape(1, -1, 1, 1, 1)
        return share.unsqueeze(1).pow(steps).cumsum(1) / steps

    def unroll(self, pictures: Tensor, horizon: int) -> Tensor:
        """pictures (B,T,C,H,W), all observed -> the pictures to come (B,horizon,C,H,W), fully trusted.

        Training uses it.
        """
        batch_size, height, width = pictures.shape[0], pictures.shape[3], pictures.shape[4]
        lengths = torch.full((batch_size,), pictures.shape[1], device=pictures.device)
        maps = self.unpack(self.initial_state(batch_size, height, width).to(pictures.device), height, width)
        before = torch.cat((pictures[:, :1], pictures[:, :-1]), dim=1)
        quarters, eighths = self.watch(pictures, lengths, before, maps[0], maps[1])
        trace = self.pyramid(grey(pictures[:, -1]), grey(before[:, -1]))
        forecast: Tensor = self.decoder(pictures[:, -1], trace, quarters[:, -1], eighths[:, -1], horizon)
        return forecast

    @torch.jit.export
    def initial_state(self, B: int, H: int, W: int) -> Tensor:  # noqa: N803 - the contract's axis letters
        """-> (B,S) before the first frame, for pictures of H x W pixels."""
        sizes = [shape[0] * shape[1] * shape[2] for shape in self.state_shapes(H + -H % 8, W + -W % 8)]
        return torch.zeros(B, sum(sizes))

    @torch.jit.export
    def step(self, chunk: Tensor, lengths: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """chunk (B,T,H,W,3) uint8, lengths (B,), state (B,S).

        -> what comes after each frame (B,T,H,W,3) float32 in [0,1], the state after each row's last valid frame.
        """
        batch_size, num_steps, height, width = chunk.shape[0], chunk.shape[1], chunk.shape[2], chunk.shape[3]
        pictures = self.pictures(chunk)
        maps = self.unpack(state, pictures.shape[3], pictures.shape[4])
        quarter, eighth, trace, before = maps[0], maps[1], maps[2], maps[3]
        forecast, evidence, num_seen = maps[4], maps[5], maps[6]
        before = torch.where(num_seen > 0.0, before, pictures[:, 0])
        forecast = torch.where(num_seen > 0.0, forecast, pictures[:, 0])  # a first frame is evidence of nothing
        earlier = torch.cat((before.unsqueeze(1), pictures[:, :-1]), dim=1)
        quarters, eighths = self.watch(pictures, lengths, earlier, quarter, eighth)
        flat = pictures.flatten(0, 1)
        flat_traces = self.pyramid(grey(flat), grey(earlier.flatten(0, 1)))
        forecasts = self.decoder(flat, flat_traces, quarters.flatten(0, 1), eighths.flatten(0, 1), 1)
        forecasts = forecasts.reshape(pictures.shape)
        traces = flat_traces.reshape(batch_size, num_steps, -1, pictures.shape[3], pictures.shape[4])
        answers: list[Tensor] = []
        for t in range(num_steps):
            picture = pictures[:, t]
            valid = (t < lengths).reshape(batch_size, 1, 1, 1)
            judged = self.trust_decay * evidence + self.judge(forecast, before, picture)
            evidence = torch.where(valid, judged, evidence)
            trace = torch.where(valid, traces[:, t], trace)
            before = torch.where(valid, picture, before)
            forecast = torch.where(valid, forecasts[:, t], forecast)
            answers.append(torch.lerp(picture, forecasts[:, t], self.trust(evidence)))
        num_seen = num_seen + lengths.reshape(batch_size, 1, 1, 1)
        maps = [quarters[:, -1], eighths[:, -1], trace, before, forecast, evidence, num_seen]
        state = torch.cat([part.flatten(1) for part in maps], dim=1)
        return self.frames(torch.stack(answers, dim=1), height, width), state

    @torch.jit.export
    def decode(self, state: Tensor, horizon: int, H: int, W: int) -> Tensor:  # noqa: N803
        """state (B,S) of pictures of H x W pixels -> the `horizon` frames to come (B,horizon,H,W,3) in [0,1]."""
        maps = self.unpack(state, H + -H % 8, W + -W % 8)
        last = maps[3]
        forecast = self.decoder(last, maps[2], maps[0], maps[1], horizon)
        answer = torch.lerp(last.unsqueeze(1), forecast, self.damped(self.trust(maps[5]), horizon))
        return self.frames(answer, H, W)

    def forward(self, frames: Tensor, lengths: Tensor, horizon: int) -> Tensor:
        """frames (B,T,H,W,3) uint8, lengths (B,) -> the `horizon` frames after each row's last (B,horizon,H,W,3)."""
        height, width = frames.shape[2], frames.shape[3]
        state = self.initial_state(frames.shape[0], height, width).to(frames.device)
        _, state = self.step(frames, lengths, state)
        return self.decode(state, horizon, height, width)

    def frames(self, pictures: Tensor, height: int, width: int) -> Tensor:
        """pictures (B,T,C,.,.), padded -> (B,T,height,width,3)."""
        pictures = pictures[:, :, :, :height, :width].permute(0, 1, 3, 4, 2)
        return pictures.expand(-1, -1, -1, -1, 3)

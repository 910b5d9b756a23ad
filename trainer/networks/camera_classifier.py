"""The classifier of camera work and edits: from frames to logits of labels, several of which may hold at once."""

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.networks.frame_encoder import ConvNorm, SequenceEmbedding
from trainer.networks.lengths import valid_steps
from trainer.networks.luma import luma
from trainer.networks.measured_steps import MeasuredSteps
from trainer.networks.recurrent import Cell, Recurrent
from trainer.recipe.camera import Network

EXCLUSIVE: Final = ((0, 1), (2, 3), (4, 5), (6,), (7,), (8,), (9, 10, 11, 12))
"""Groups of labels, by their number in trainer.data.scene_labels: at most one label of a group holds at a time."""


class LogOdds(nn.Module):
    """Logits of labels in groups; in each group one label holds, or none: (..., size) -> (..., K)."""

    def __init__(self, size: int, group_sizes: list[int]) -> None:
        super().__init__()
        self.group_sizes = group_sizes
        self.project = nn.Linear(size, sum(group_sizes) + len(group_sizes))

    def forward(self, x: Tensor) -> Tensor:
        odds: list[Tensor] = []
        for group in self.project(x).split([size + 1 for size in self.group_sizes], dim=-1):
            # A label's logit is the log odds of its softmax share, so that sigmoid gives the share back.
            for label in range(1, group.shape[-1]):
                others = torch.cat((group[..., :label], group[..., label + 1 :]), dim=-1)
                odds.append(group[..., label] - others.logsumexp(dim=-1))
        return torch.stack(odds, dim=-1)


class CameraClassifier(nn.Module):
    """Tells at every step how the camera moves and how the video is cut, `delay_steps` after it has happened.

    The state (B,S), float32, is the recurrence's state ++ the sums over all steps of the scores and of 1 - score ++ the
    number of steps ++ the last frame's luma ++ the luma of the last `lag` frames at half the size, oldest first.
    """

    max_pixel: Final[float] = 255.0
    num_shades: Final[int] = 6
    least: Final[float] = 1e-30

    def __init__(self, width: int, height: int, rate: float, cell: Cell, network: Network) -> None:
        super().__init__()
        self.width, self.height = width, height
        self.lag = network.lag
        self.memory = network.memory
        size = network.size
        self.num_labels = sum(len(group) for group in EXCLUSIVE)
        self.measured = MeasuredSteps(width, height, rate, network.lag)
        self.rows, self.columns = self.measured.rows, self.measured.columns
        stages: list[nn.Module] = [ConvNorm(3, network.num_channels[0], kernel_size=5, stride=2)]
        for before, after in zip(network.num_channels[:-1], network.num_channels[1:], strict=True):
            stages.append(ConvNorm(before, after, kernel_size=3, stride=2))
        self.stages = nn.Sequential(*stages)
        num_seen = network.num_channels[-1] + self.measured.flow_size
        self.mix = ConvNorm(num_seen, network.mixed_channels, kernel_size=3, stride=1)
        num_features = network.mixed_channels * self.rows * self.columns + self.measured.size + self.num_shades
        self.embedding = SequenceEmbedding(num_features, size, network.dropout)
        self.recurrent = Recurrent(cell, size, size)
        self.now = LogOdds(2 * size, [len(group) for group in EXCLUSIVE])
        self.half_size = (height // 2) * (width // 2)
        sizes = [self.recurrent.state_size, 2 * self.num_labels, 1, height * width, self.lag * self.half_size]
        self.state_sizes = sizes

    def light(self, frames: Tensor) -> Tensor:
        """frames (B,T,H,W,3) uint8 -> luma (B,T,height,width) in [0,1], resized where the size differs."""
        pictures = luma(frames.permute(0, 1, 4, 2, 3).to(torch.float32) / self.max_pixel)
        if pictures.shape[2] != self.height or pictures.shape[3] != self.width:
            pictures = F.interpolate(pictures, (self.height, self.width), mode="bilinear", antialias=True)
        return pictures

    def histories(self, light: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """light (B,T,H,W), state (B,S) -> luma from one step earlier on, and at half the size from `lag` earlier on.

        Their shapes are (B,1+T,H,W) and (B,lag+T,H/2,W/2). Before the first frame ever, copies of it stand in.
        """
        _, _, num_seen, last, halves = torch.split(state, self.state_sizes, dim=1)
        half = F.avg_pool2d(light, 2)
        begun = num_seen.reshape(-1, 1, 1, 1) > 0
        last = torch.where(begun, last.reshape(-1, 1, self.height, self.width), light[:, :1])
        halves = torch.where(begun, halves.reshape(-1, self.lag, self.height // 2, self.width // 2), half[:, :1])
        return torch.cat((last, light), dim=1), torch.cat((halves, half), dim=1)

    def measure(self, light: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """light (B,T,H,W) in [0,1], state (B,S) before the first of them -> all that is measured, not learnt; float32.

        The picture and its changes (B*T,3,H,W), flow (B*T,·,rows,columns), numbers (B,T,·).
        """
        num_steps = light.shape[1]
        history, halves = self.histories(light, state)
        before, half, long_before = history[:, :-1], halves[:, self.lag :], halves[:, :num_steps]
        if self.memory == "none":  # the control: one frame, compared with itself
            before, long_before = light, half
        steps, flow = self.measured(light, before, half, long_before)
        far_change = F.interpolate(half - long_before, (self.height, self.width), mode="nearest")
        pictures = torch.stack(((light - 0.5) * 4.0, (light - before) * 12.0, far_change * 6.0), dim=2)
        return pictures.flatten(0, 1), flow, torch.cat((steps, self.shades(light)), dim=2)

    def shades(self, light: Tensor) -> Tensor:
        """light (B,T,H,W) -> (B,T,num_shades): how dark it is, as logarithms, which tell small values apart."""
        values = [light.mean(dim=(2, 3)), light.flatten(2).std(dim=2), F.avg_pool2d(light, 4).amax(dim=(2, 3))]
        levels = [20.0 / self.max_pixel, 40.0 / self.max_pixel, 60.0 / self.max_pixel]
        # Roughly the shares of the picture that are brighter than these.
        values += [torch.sigmoid((light - level) * 100.0).mean(dim=(2, 3)) for level in levels]
        return torch.log(torch.stack(values, dim=2) + 1e-4) / 4.0 + 1.0

    def embed(self, pictures: Tensor, flow: Tensor, numbers: Tensor) -> Tensor:
        """What `measure` gives -> embedded steps (B,T,size)."""
        seen = F.adaptive_avg_pool2d(self.stages(pictures), (self.rows, self.columns))
        maps = self.mix(torch.cat((seen, flow), dim=1)).flatten(1)
        maps = maps.reshape(numbers.shape[0], numbers.shape[1], -1)
        embedded: Tensor = self.embedding(torch.cat((maps, numbers), dim=2))
        return embedded

    def unroll(self, embedded: Tensor, lengths: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """embedded (B,T,size), lengths (B,), state (B,S) -> now, so_far (B,T,K), hidden (B,T,2*size), state (B,S).

        This is all that depends on time. `so_far` is the logit of the mean score since the beginning, which is the
        share of steps in which a label holds. The pictures in the state are not changed.
        """
        recurrent, sums, num_seen, last, halves = torch.split(state, self.state_sizes, dim=1)
        if self.memory == "none":
            hidden = torch.zeros_like(embedded)
        else:
            hidden, recurrent = self.recurrent(embedded, lengths, recurrent)
        hidden = torch.cat((embedded, hidden), dim=2)
        now = self.now(hidden)
        steps = torch.arange(1, now.shape[1] + 1, device=now.device)
        valid = valid_steps(now.shape[1], lengths).unsqueeze(2)
        held = torch.cat(
            (now.sigmoid(), (-now).sigmoid()), dim=2
        )  # both, since 1 - 1e-8 rounds to 1, whose logit is infinite
        totals = sums.unsqueeze(1) + torch.where(valid, held, 0.0).cumsum(1)  # (B,T,2*K)
        counts = num_seen + torch.minimum(steps.unsqueeze(0), lengths.unsqueeze(1))  # (B,T)
        shares, lacks = totals.clamp(min=self.least).chunk(2, dim=2)
        so_far = torch.log(shares) - torch.log(lacks)
        after = torch.cat((recurrent, totals[:, -1], counts[:, -1:], last, halves), dim=1)
        return now, so_far, hidden, after

    def remember(self, light: Tensor, lengths: Tensor, before: Tensor, state: Tensor) -> Tensor:
        """light (B,T,H,W), lengths (B,), states (B,S) before and after -> state with each row's last pictures."""
        history, halves = self.histories(light, before)
        rows = torch.arange(len(lengths), device=lengths.device)
        last = history[rows, lengths].flatten(1)  # at length 0, the one before the chunk
        latest = lengths.unsqueeze(1) + torch.arange(self.lag, device=lengths.device)  # (B,lag)
        recent = halves[rows.unsqueeze(1), latest].flatten(1)
        pictures = torch.cat((last, recent), dim=1)
        kept = state.shape[1] - pictures.shape[1]
        # A row that has seen nothing yet keeps its empty state.
        pictures = torch.where(state[:, kept - 1 : kept] > 0, pictures, before[:, kept:])
        return torch.cat((state[:, :kept], pictures), dim=1)

    @torch.jit.export
    def initial_state(self, B: int, H: int, W: int) -> Tensor:  # noqa: N803 - the contract's axis letters
        """-> (B,S) before the first frame. Its size is the model's own, whatever H and W are."""
        return torch.zeros(B, sum(self.state_sizes))

    @torch.jit.export
    def step(self, chunk: Tensor, lengths: Tensor, state: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """chunk (B,T,H,W,3) uint8, lengths (B,), state (B,S) -> ((now, so_far) (B,T,K), state after each last step)."""
        light = self.light(chunk)
        pictures, flow, numbers = self.measure(light, state)
        now, so_far, _, after = self.unroll(self.embed(pictures, flow, numbers), lengths, state)
        return (now, so_far), self.remember(light, lengths, state, after)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """frames (B,T,H,W,3) uint8, lengths (B,) -> logits (B,K) of the mean score over each row's steps."""
        state = self.initial_state(frames.shape[0], frames.shape[2], frames.shape[3]).to(frames.device)
        so_far = self.step(frames, lengths, state)[0][1]
        last = (lengths - 1).clamp(min=0)
        return so_far[torch.arange(len(last), device=last.device), last]

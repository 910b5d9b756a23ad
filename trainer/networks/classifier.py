"""The classifier of video: from frames to logits of each moment and of all so far. It can start at any point."""

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.networks.decoders import AttentiveDecoder
from trainer.networks.frame_encoder import FrameEncoder, SequenceEmbedding
from trainer.networks.luma import luma
from trainer.networks.recurrent import Cell, Recurrent, RunningMean
from trainer.recipe.classify import Network


class VideoClassifier(nn.Module):
    """Tells which of `num_labels` things a video shows.

    The state (B,S), float32, is the encoder's state ++ the decoder's ++ the number of steps so far ++ the last frame's
    luma (H*W values; none without `differences`).
    """

    max_pixel: Final[float] = 255.0
    picture_gain: Final[float] = 4.0
    change_gain: Final[float] = 12.0
    """They give about unit variance: on UCF101 pixels deviate by 0.22, and luma from that of 1/4 s before by 0.074."""

    def __init__(
        self,
        num_labels: int,
        width: int,
        height: int,
        cell: Cell,
        network: Network,
    ) -> None:
        super().__init__()
        self.width = width
        self.height = height
        self.differences = network.differences
        size = network.size
        recurrent_cell: Cell | None = cell if network.recurrence == "cell" else None
        in_channels = 4 if network.differences else 3
        self.frame_encoder = FrameEncoder(
            in_channels, network.num_channels, network.blocks_per_stage, network.pooling == "mean_max"
        )
        self.embedding = SequenceEmbedding(self.frame_encoder.num_features, size, network.dropout)
        self.encoder = Recurrent(recurrent_cell, size, size) if recurrent_cell else RunningMean(size)
        self.decoder = AttentiveDecoder(recurrent_cell, size, size, network.num_heads)
        self.now = nn.Sequential(nn.Dropout(network.dropout), nn.Linear(2 * size, num_labels))
        self.so_far = nn.Sequential(nn.Dropout(network.dropout), nn.Linear(self.decoder.size, num_labels))
        luma_size = height * width if network.differences else 0
        recurrent_size = self.encoder.state_size + self.decoder.state_size
        self.state_sizes = [recurrent_size, 1, luma_size]

    def pictures(self, frames: Tensor) -> Tensor:
        """frames (B,T,H,W,3) uint8 -> (B,T,3,height,width) float32 in [0,1], resized where the size differs."""
        batch_size, num_steps, height, width = frames.shape[0], frames.shape[1], frames.shape[2], frames.shape[3]
        pictures = frames.permute(0, 1, 4, 2, 3).to(torch.float32) / self.max_pixel  # (B,T,3,H,W)
        if height != self.height or width != self.width:
            flat = pictures.reshape(batch_size * num_steps, 3, height, width)
            flat = F.interpolate(flat, (self.height, self.width), mode="bilinear", antialias=True)
            pictures = flat.reshape(batch_size, num_steps, 3, self.height, self.width)
        return pictures

    def embed(self, pictures: Tensor, state: Tensor) -> Tensor:
        """pictures (B,T,3,H,W) in [0,1], state (B,S) before the first of them -> embedded frames (B,T,size)."""
        batch_size, num_steps = pictures.shape[0], pictures.shape[1]
        x = (pictures - 0.5) * self.picture_gain
        if self.differences:
            _, num_seen, before = torch.split(state, self.state_sizes, dim=1)
            light = luma(pictures)  # (B,T,H,W)
            before = before.reshape(batch_size, 1, self.height, self.width)
            before = torch.where(num_seen.reshape(batch_size, 1, 1, 1) > 0.0, before, light[:, :1])
            change = light - torch.cat((before, light[:, :-1]), dim=1)
            x = torch.cat((x, change.unsqueeze(2) * self.change_gain), dim=2)
        features = self.frame_encoder(x.flatten(0, 1))
        embedded: Tensor = self.embedding(features.reshape(batch_size, num_steps, -1))
        return embedded

    def unroll(self, embedded: Tensor, lengths: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """embedded (B,T,size), lengths (B,), state (B,S) -> now, so_far (B,T,K), encoded (B,T,size), state (B,S).

        This is all that depends on time. The luma in the state is not changed.
        """
        recurrent, num_seen, before = torch.split(state, self.state_sizes, dim=1)
        encoder_state, decoder_state = torch.split(recurrent, [self.encoder.state_size, self.decoder.state_size], dim=1)
        encoded, encoder_state = self.encoder(embedded, lengths, encoder_state)
        decoded, decoder_state = self.decoder(encoded, lengths, decoder_state)
        now = self.now(torch.cat((embedded, encoded), dim=2))
        num_seen = num_seen + lengths.unsqueeze(1)
        state = torch.cat((encoder_state, decoder_state, num_seen, before), dim=1)
        return now, self.so_far(decoded), encoded, state

    def remember(self, pictures: Tensor, lengths: Tensor, state: Tensor) -> Tensor:
        """pictures (B,T,3,H,W) in [0,1], lengths (B,), state (B,S) -> state with each row's last valid luma."""
        if not self.differences:
            return state
        recurrent, num_seen, before = torch.split(state, self.state_sizes, dim=1)
        last = (lengths - 1).clamp(min=0)
        light = luma(pictures[torch.arange(len(last)), last].unsqueeze(1)).flatten(1)  # (B,H*W)
        before = torch.where(lengths.unsqueeze(1) > 0, light, before)
        return torch.cat((recurrent, num_seen, before), dim=1)

    @torch.jit.export
    def initial_state(self, B: int, H: int, W: int) -> Tensor:  # noqa: N803 - the contract's axis letters
        """-> (B,S) before the first frame. Its size is the model's own, whatever H and W are."""
        encoder = torch.zeros(B, self.encoder.state_size)
        rest = torch.zeros(B, self.state_sizes[1] + self.state_sizes[2])
        return torch.cat((encoder, self.decoder.initial_state(B), rest), dim=1)

    @torch.jit.export
    def step(self, chunk: Tensor, lengths: Tensor, state: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """chunk (B,T,H,W,3) uint8, lengths (B,), state (B,S) -> ((now, so_far) (B,T,K), state after each last step)."""
        pictures = self.pictures(chunk)
        now, so_far, _, after = self.unroll(self.embed(pictures, state), lengths, state)
        return (now, so_far), self.remember(pictures, lengths, after)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """frames (B,T,H,W,3) uint8, lengths (B,) -> logits (B,K): `so_far` at each row's last step."""
        state = self.initial_state(frames.shape[0], frames.shape[2], frames.shape[3]).to(frames.device)
        so_far = self.step(frames, lengths, state)[0][1]
        last = (lengths - 1).clamp(min=0)
        return so_far[torch.arange(len(last)), last]

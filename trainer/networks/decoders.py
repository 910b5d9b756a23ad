"""The decoders of the encoder's steps: one for labels and, in training, one for the frames to come."""

import torch
from torch import Tensor, nn

from trainer.networks.attention import RunningAttention
from trainer.networks.recurrent import Cell, Recurrent, RunningMean


class AttentiveDecoder(nn.Module):
    """One vector per step for all that was seen so far, by attention over it and by a second recurrence.

    The state (B,S) is the attention's state ++ the recurrence's.
    """

    def __init__(self, cell: Cell | None, input_size: int, size: int, num_heads: int) -> None:
        super().__init__()
        self.attention = RunningAttention(input_size, num_heads)
        self.recurrent = Recurrent(cell, 2 * input_size, size) if cell else RunningMean(2 * input_size)
        self.size = input_size + self.recurrent.size
        self.state_size = self.attention.state_size + self.recurrent.state_size

    def initial_state(self, batch_size: int) -> Tensor:
        """-> (B,S): nothing seen."""
        recurrent = torch.zeros(batch_size, self.recurrent.state_size)
        return torch.cat((self.attention.initial_state(batch_size), recurrent), dim=1)

    def forward(self, encoded: Tensor, lengths: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """encoded (B,T,input_size), lengths (B,), state (B,S) -> decoded (B,T,size), state (B,S)."""
        sizes = [self.attention.state_size, self.recurrent.state_size]
        attention_state, recurrent_state = torch.split(state, sizes, dim=1)
        contexts, attention_state = self.attention(encoded, lengths, attention_state)
        steps = torch.cat((encoded, contexts), dim=2)
        hidden, recurrent_state = self.recurrent(steps, lengths, recurrent_state)
        return torch.cat((contexts, hidden), dim=2), torch.cat((attention_state, recurrent_state), dim=1)


class ForecastDecoder(nn.Module):
    """Forecasts embedded frames from what the encoder remembers.

    It is the second decoder of the composite model of Srivastava et al. 2015, arXiv 1502.04681. It is used in training
    only and is not served.
    """

    def __init__(self, cell: Cell, encoded_size: int, embedded_size: int) -> None:
        super().__init__()
        self.recurrent = Recurrent(cell, embedded_size, encoded_size)
        self.begin = nn.Linear(encoded_size, self.recurrent.state_size)
        self.project = nn.Linear(encoded_size, embedded_size)

    def forward(self, encoded: Tensor, horizon: int) -> Tensor:
        """encoded (B,encoded_size) of the last step -> embedded frames (B,horizon,embedded_size), each fed back in."""
        state = torch.tanh(self.begin(encoded))
        frame = torch.zeros_like(self.project(encoded))
        lengths = torch.ones(encoded.shape[0], dtype=torch.int64, device=encoded.device)
        forecast: list[Tensor] = []
        for _ in range(horizon):
            hidden, state = self.recurrent(frame.unsqueeze(1), lengths, state)
            frame = self.project(hidden[:, 0])
            forecast.append(frame)
        return torch.stack(forecast, dim=1)

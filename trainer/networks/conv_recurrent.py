"""Recurrence over maps: a convolutional LSTM or GRU whose state is one map, and a pair of them at two scales."""

import torch
from torch import Tensor, nn

from trainer.networks.recurrent import Cell
from trainer.networks.warping import enlarge


class ConvLstmCell(nn.Module):
    """One step of a convolutional LSTM (Shi et al. 2015, arXiv 1506.04214, without peepholes).

    `inputs` (B,4*size,H,W) is what `convolve_inputs` makes of x; state (B,2*size,H,W) = hidden ++ cell.
    """

    def __init__(self, in_channels: int, size: int) -> None:
        super().__init__()
        self.convolve_inputs = nn.Conv2d(in_channels, 4 * size, kernel_size=3, padding=1)
        self.convolve_hidden = nn.Conv2d(size, 4 * size, kernel_size=3, padding=1, bias=False)
        self.state_channels = 2 * size
        with torch.no_grad():  # remember by default: Jozefowicz et al. 2015, "An Empirical Exploration of ..."
            torch.nn.init.zeros_(self.convolve_inputs.bias)  # type: ignore[arg-type]
            self.convolve_inputs.bias[size : 2 * size].fill_(1.0)  # type: ignore[index]

    def forward(self, inputs: Tensor, state: Tensor) -> Tensor:
        hidden, cell = state.chunk(2, dim=1)
        enter, keep, new, leave = (inputs + self.convolve_hidden(hidden)).chunk(4, dim=1)
        cell = torch.sigmoid(keep) * cell + torch.sigmoid(enter) * torch.tanh(new)
        return torch.cat((torch.sigmoid(leave) * torch.tanh(cell), cell), dim=1)


class ConvGruCell(nn.Module):
    """One step of a convolutional GRU (Ballas et al. 2015, arXiv 1511.06432), reset after the convolution.

    `inputs` (B,3*size,H,W) is what `convolve_inputs` makes of x; state (B,size,H,W) = hidden.
    """

    def __init__(self, in_channels: int, size: int) -> None:
        super().__init__()
        self.convolve_inputs = nn.Conv2d(in_channels, 3 * size, kernel_size=3, padding=1)
        self.convolve_hidden = nn.Conv2d(size, 3 * size, kernel_size=3, padding=1)
        self.state_channels = size

    def forward(self, inputs: Tensor, state: Tensor) -> Tensor:
        reset_x, update_x, new_x = inputs.chunk(3, dim=1)
        reset_h, update_h, new_h = self.convolve_hidden(state).chunk(3, dim=1)
        new = torch.tanh(new_x + torch.sigmoid(reset_x + reset_h) * new_h)
        update = torch.sigmoid(update_x + update_h)
        return new + update * (state - new)


class ConvRecurrent(nn.Module):
    """One convolutional LSTM or GRU over maps of any size. Calls on parts of a sequence give what one call gives."""

    def __init__(self, cell: Cell, in_channels: int, size: int) -> None:
        super().__init__()
        self.cell = ConvLstmCell(in_channels, size) if cell == "lstm" else ConvGruCell(in_channels, size)
        self.size = size
        self.state_channels = self.cell.state_channels

    def hidden(self, state: Tensor) -> Tensor:
        """state (B,state_channels,H,W) -> the hidden maps in it (B,size,H,W)."""
        return state[:, : self.size]

    def step(self, x: Tensor, state: Tensor) -> Tensor:
        """x (B,C,H,W), state (B,state_channels,H,W) -> state."""
        after: Tensor = self.cell(self.cell.convolve_inputs(x), state)
        return after

    def forward(self, x: Tensor, lengths: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """x (B,T,C,H,W), lengths (B,), state -> states after each step (B,T,state_channels,H,W), the last valid one.

        The inputs of all steps are convolved at once; only what depends on the state runs step by step.
        """
        batch_size, num_steps = x.shape[0], x.shape[1]
        inputs = self.cell.convolve_inputs(x.flatten(0, 1))
        inputs = inputs.reshape(batch_size, num_steps, inputs.shape[1], x.shape[3], x.shape[4])
        states: list[Tensor] = []
        for t in range(num_steps):
            valid = (t < lengths).reshape(batch_size, 1, 1, 1)
            state = torch.where(valid, self.cell(inputs[:, t], state), state)
            states.append(state)
        return torch.stack(states, dim=1), state


class TwoScaleRecurrent(nn.Module):
    """A recurrence at an eighth of the size, for what moves far, and one at a quarter that reads its output."""

    def __init__(
        self, cell: Cell, in_channels: int, quarter_size: int, eighth_size: int, residual: bool = False
    ) -> None:
        """`residual`: the output of the one at an eighth is added to the other's input; else concatenated with it."""
        super().__init__()
        self.residual = residual
        told_size = in_channels if residual else quarter_size
        self.shrink = nn.Sequential(nn.Conv2d(in_channels, eighth_size, 3, stride=2, padding=1), nn.ReLU())
        self.eighth = ConvRecurrent(cell, eighth_size, eighth_size)
        self.tell = nn.Conv2d(eighth_size, told_size, 1)
        self.quarter = ConvRecurrent(cell, in_channels if residual else in_channels + told_size, quarter_size)

    def hear(self, x: Tensor, eighth: Tensor) -> Tensor:
        """x (N,C,h,w), the state at an eighth -> the input of the recurrence at a quarter."""
        told = enlarge(self.tell(self.eighth.hidden(eighth)), 2)
        return x + told if self.residual else torch.cat((x, told), dim=1)

    def step(self, x: Tensor, quarter: Tensor, eighth: Tensor) -> tuple[Tensor, Tensor]:
        """x (B,C,h,w), the two states -> the two states."""
        eighth = self.eighth.step(self.shrink(x), eighth)
        return self.quarter.step(self.hear(x, eighth), quarter), eighth

    def forward(self, x: Tensor, lengths: Tensor, quarter: Tensor, eighth: Tensor) -> tuple[Tensor, Tensor]:
        """x (B,T,C,h,w), lengths (B,), the two states -> the two after every step (B,T,...)."""
        batch_size, num_steps = x.shape[0], x.shape[1]
        flat = x.flatten(0, 1)
        small = self.shrink(flat)
        small = small.reshape(batch_size, num_steps, small.shape[1], small.shape[2], small.shape[3])
        eighths, _ = self.eighth(small, lengths, eighth)
        heard = self.hear(flat, eighths.flatten(0, 1))
        quarters, _ = self.quarter(heard.reshape(batch_size, num_steps, -1, x.shape[3], x.shape[4]), lengths, quarter)
        return quarters, eighths

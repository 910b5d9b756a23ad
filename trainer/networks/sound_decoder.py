"""The other half of the describer of sound's autoencoder: it is used in training and not served."""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from trainer.networks.lengths import reversed_steps
from trainer.networks.recurrent import Cell, LstmCell, Recurrent


def run_whole(recurrent: Recurrent, x: Tensor) -> Tensor:
    """What `recurrent` makes of x (B,T,D) from its initial state: hidden (B,T,size).

    It runs PyTorch's own recurrence with the same weights, which takes a third of the time in training. Later steps
    never change earlier ones, so padding does no harm.
    """
    kind = nn.LSTM if isinstance(recurrent.cell, LstmCell) else nn.GRU
    weights: dict[str, Tensor] = {f"{name}_l0": weight for name, weight in recurrent.cell.cell.named_parameters()}
    with torch.device("meta"):  # a form without weights of its own
        form = kind(x.shape[2], recurrent.size, batch_first=True)
    hidden: Tensor = functional_call(form, weights, (x,))[0]
    return hidden


class SoundDecoder(nn.Module):
    """Decodes a sound's spectrogram from its bottleneck, last step first, as Freitag et al. 2017 (arXiv 1712.04382) do.

    It sees the true steps before the one it has to give, except for those that are dropped: the bottleneck must hold
    what they would tell. In eval mode every call drops the same steps, so that results differ by the network alone.
    """

    def __init__(self, cell: Cell, bottleneck: int, size: int, step_size: int, teacher_dropout: float) -> None:
        """`step_size`: values in one step of the spectrogram."""
        super().__init__()
        self.teacher_dropout = teacher_dropout
        self.num_states = 4 if cell == "lstm" else 2  # of two layers
        kind = nn.LSTM if cell == "lstm" else nn.GRU
        self.recurrent = kind(step_size, size, num_layers=2, batch_first=True)
        self.begin = nn.Linear(bottleneck, self.num_states * size)
        self.project = nn.Linear(size, step_size)

    def forward(self, bottleneck: Tensor, steps: Tensor, lengths: Tensor) -> Tensor:
        """bottleneck (B,D), true steps (B,T,step_size), lengths (B,) -> reconstructed steps (B,T,step_size)."""
        backwards = reversed_steps(steps, lengths)
        told = torch.cat((torch.zeros_like(backwards[:, :1]), backwards[:, :-1]), dim=1)
        generator = None if self.training else torch.Generator(told.device).manual_seed(0)
        kept = torch.rand(told.shape[:2], generator=generator, device=told.device) >= self.teacher_dropout
        states = self.begin(bottleneck).tanh().unflatten(1, (self.num_states, -1)).transpose(0, 1)  # (layers,B,size)
        start = tuple(half.contiguous() for half in states.chunk(self.num_states // 2))
        hidden, _ = self.recurrent(told * kept.unsqueeze(2), start if len(start) == 2 else start[0])
        return reversed_steps(self.project(hidden), lengths)

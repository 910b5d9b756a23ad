"""Video to words: a recurrence reads the steps in both directions, another one attends to them and writes."""

from typing import Final

import torch
from torch import Tensor, nn

from trainer.networks.camera_steps import CameraSteps
from trainer.networks.frame_steps import FrameSteps
from trainer.networks.lengths import reversed_steps, valid_steps
from trainer.networks.recurrent import Cell, GruCell, LstmCell, Recurrent
from trainer.networks.sound_decoder import run_whole
from trainer.networks.writing import AdditiveScore, StepClock

PAD, BOS, EOS, UNK = range(4)
"""Tokens of app.models.manifest.SPECIAL_WORDS; the moments of the clock follow, then all other words."""


class Describer(nn.Module):
    """Writes comments on a video, the likeliest first.

    The words for moments are not learnt one by one: a separate attention points at the step that is meant.
    """

    never: Final[float] = -1e9
    pad: Final[int] = PAD
    bos: Final[int] = BOS
    eos: Final[int] = EOS
    num_special: Final[int] = UNK + 1

    def __init__(
        self, steps: CameraSteps | FrameSteps, cell: Cell, size: int, num_words: int, clock: StepClock
    ) -> None:
        """`num_words`: without the special words and those of the clock."""
        super().__init__()
        self.steps = steps
        self.clock = clock
        self.forwards = Recurrent(cell, steps.size, size)
        self.backwards = Recurrent(cell, steps.size, size)
        self.num_tokens = UNK + 1 + clock.num_words + num_words
        self.embed = nn.Embedding(self.num_tokens, size, padding_idx=PAD)
        self.writer = LstmCell(3 * size, size) if cell == "lstm" else GruCell(3 * size, size)
        self.begin = nn.Linear(2 * size + steps.size, self.writer.state_size)
        self.attention = AdditiveScore(size, 2 * size, size // 2)
        self.tenths = AdditiveScore(size, 2 * size, size // 2)
        self.wholes = AdditiveScore(size, 2 * size, size // 2)
        self.words = nn.Sequential(nn.Linear(3 * size, size), nn.Tanh(), nn.Linear(size, UNK + 1 + num_words))
        self.dropout = nn.Dropout(0.1)
        self.size = size

    def read(self, steps: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """steps (B,T,D), lengths (B,) -> their memory (B,T,2*size), the state (B,S) to start writing with."""
        nothing = torch.zeros(steps.shape[0], self.forwards.state_size, device=steps.device)
        there = self.forwards(steps, lengths, nothing)[0]
        back = self.backwards(reversed_steps(steps, lengths), lengths, nothing)[0]
        return self.remember(steps, lengths, there, reversed_steps(back, lengths))

    def remember(self, steps: Tensor, lengths: Tensor, there: Tensor, back: Tensor) -> tuple[Tensor, Tensor]:
        """As `read`, from the hidden states (B,T,size) of both directions, each at its step."""
        memory = torch.cat((there, back), dim=2)
        valid = valid_steps(steps.shape[1], lengths).unsqueeze(2)
        count = lengths.clamp(min=1).unsqueeze(1)
        mean = torch.where(valid, torch.cat((memory, steps), dim=2), 0.0).sum(dim=1) / count
        return self.dropout(memory), torch.tanh(self.begin(mean))

    def advance(
        self, tokens: Tensor, state: Tensor, memory: Tensor, keys: Tensor, valid: Tensor
    ) -> tuple[Tensor, Tensor]:
        """tokens (N,), state (N,S), memory (N,T,2*size) with keys, valid (N,T) -> context (N,2*size), state (N,S)."""
        scores = self.attention(state[:, : self.size], keys).masked_fill(~valid, self.never)
        context = torch.bmm(scores.softmax(dim=1).unsqueeze(1), memory)[:, 0]
        return context, self.writer(torch.cat((self.dropout(self.embed(tokens)), context), dim=1), state)

    def log_shares(self, hidden: Tensor, context: Tensor, tenths: Tensor, wholes: Tensor) -> Tensor:
        """hidden (N,size), context (N,2*size), two pointing scores for each step (N,T) -> log softmax (N,V)."""
        words = self.words(torch.cat((hidden, context), dim=1))
        moments = self.clock(tenths, wholes)
        logits = torch.cat((words[:, : self.num_special], moments, words[:, self.num_special :]), dim=1)
        return torch.log_softmax(logits, dim=1)

    def teach(self, steps: Tensor, lengths: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """steps (B,T,D), lengths (B,), tokens (B,L) from <bos> on -> log softmax (B,L,V), memory (B,T,2*size).

        The log softmax is that of the token after each; the memory is that of the steps.
        """
        there, back = run_whole(self.forwards, steps), run_whole(self.backwards, reversed_steps(steps, lengths))
        memory, state = self.remember(steps, lengths, there, reversed_steps(back, lengths))
        valid, keys = valid_steps(steps.shape[1], lengths), self.attention.keys(memory)
        hidden: list[Tensor] = []
        contexts: list[Tensor] = []
        for place in range(tokens.shape[1]):
            context, state = self.advance(tokens[:, place], state, memory, keys, valid)
            hidden.append(state[:, : self.size])
            contexts.append(context)
        written, seen = torch.stack(hidden, dim=1), torch.stack(contexts, dim=1)  # (B,L,·)
        tenths = self.tenths.all_pairs(written, memory).masked_fill(~valid.unsqueeze(1), self.never)
        wholes = self.wholes.all_pairs(written, memory).masked_fill(~valid.unsqueeze(1), self.never)
        shares = self.log_shares(written.flatten(0, 1), seen.flatten(0, 1), tenths.flatten(0, 1), wholes.flatten(0, 1))
        return shares.reshape(tokens.shape[0], tokens.shape[1], self.num_tokens), memory

    def forward(
        self, frames: Tensor, lengths: Tensor, beam: int, max_length: int, length_penalty: float
    ) -> tuple[Tensor, Tensor]:
        """frames (B,T,H,W,3) uint8, lengths (B,) -> tokens (B,beam,max_length) int64, scores (B,beam); the best first.

        A comment ends with <eos>, unless it was cut off at `max_length`, and is padded with <pad>.
        """
        return self.search(self.steps(frames, lengths), lengths, beam, max_length, length_penalty)

    @torch.jit.export
    def search(
        self, steps: Tensor, lengths: Tensor, beam: int, max_length: int, length_penalty: float
    ) -> tuple[Tensor, Tensor]:
        """steps (B,T,D), lengths (B,) -> as `forward`. Scores are log probabilities over ((5 + length) / 6) ** penalty.

        The penalty is that of Wu et al. 2016, arXiv 1609.08144, section 7.
        """
        batch = steps.shape[0]
        memory, state = self.read(steps, lengths)
        memory, state = memory.repeat_interleave(beam, dim=0), state.repeat_interleave(beam, dim=0)
        valid = valid_steps(steps.shape[1], lengths).repeat_interleave(beam, dim=0)
        keys, tenth_keys, whole_keys = self.attention.keys(memory), self.tenths.keys(memory), self.wholes.keys(memory)
        tokens = torch.full((batch * beam, max_length), self.pad, dtype=torch.int64, device=steps.device)
        latest = torch.full((batch * beam,), self.bos, dtype=torch.int64, device=steps.device)
        sums = torch.full((batch, beam), self.never, device=steps.device)
        sums[:, 0] = 0.0  # all beams start the same: only one counts
        done = torch.zeros(batch * beam, dtype=torch.bool, device=steps.device)
        first = (torch.arange(batch, device=steps.device) * beam).unsqueeze(1)
        for place in range(max_length):
            context, state = self.advance(latest, state, memory, keys, valid)
            hidden = state[:, : self.size]
            tenths = self.tenths(hidden, tenth_keys).masked_fill(~valid, self.never)
            wholes = self.wholes(hidden, whole_keys).masked_fill(~valid, self.never)
            shares = self.log_shares(hidden, context, tenths, wholes)
            shares[:, self.pad] = self.never
            shares[:, self.bos] = self.never
            shares = torch.where(done.unsqueeze(1), self.never, shares)
            shares[:, self.pad] = torch.where(done, 0.0, shares[:, self.pad])  # a comment that has ended stays as it is
            totals = (sums.unsqueeze(2) + shares.reshape(batch, beam, self.num_tokens)).flatten(1)  # (B,beam*V)
            sums, chosen = totals.topk(beam, dim=1)
            rows = (first + torch.div(chosen, self.num_tokens, rounding_mode="floor")).flatten()
            latest = (chosen % self.num_tokens).flatten()
            tokens, state, done = tokens[rows], state[rows], done[rows]
            tokens[:, place] = latest
            done = done | (latest == self.eos)
            if bool(done.all()):
                break
        written = (tokens != self.pad).sum(dim=1).reshape(batch, beam)
        scores = sums / ((5.0 + written) / 6.0) ** length_penalty
        scores, order = scores.sort(dim=1, descending=True, stable=True)
        return tokens.reshape(batch, beam, max_length)[torch.arange(batch).unsqueeze(1), order], scores

"""Which model a stream is of, and from where it goes on."""

from app.errors import StateMismatch, UnknownModel
from app.models.store import ModelStore, ServedModel
from app.models.tokens import StateTokens, StreamPoint


def start_of(
    store: ModelStore, tokens: StateTokens, name: str | None, version: str | None, token: bytes | None
) -> tuple[ServedModel, StreamPoint | None]:
    """The model asked for, else the one that `token` is of, else the default classifier; and where it goes on.

    Raises UnknownModel, InvalidStateToken, StateTooLarge, StateMismatch where the token is another model's.
    """
    if token is None:
        return store.get(name, version, "classify" if name is None else None), None
    state = tokens.read(token)
    if name in (None, state.model) and version in (None, state.version):
        try:
            model = store.get(state.model, state.version)
        except UnknownModel as error:
            raise StateMismatch(
                f"The state belongs to model {state.model} version {state.version}, which is not served here. {error}"
            ) from error
    else:
        model = store.get(name or state.model, version)
    state.check_fits(model)
    return model, state.point

"""How a run's loss is written: what alpha weighs, whether tau squared is there, over what it is summed and averaged.

Two libraries' losses of one name differ by factors; who compares a run with another tool's needs these first.
"""

from kdnb.core.config import RunConfig
from kdnb.core.methods import METHODS, Method, known, methods_of


def convention(config: RunConfig) -> dict[str, str]:
    """What a reader needs to compare a run's loss with another library's; a switch has both sides', one by one.

    Args:
        config: of a classification run.
    """
    names = [name for name in methods_of(config) if known(name)]
    told = {name: _of(METHODS[name].of(config)) for name in names}
    if len(names) == 1:
        return told[names[0]]
    return {f"{name}, {what}": words for name in names for what, words in told[name].items()}


def _of(method: Method) -> dict[str, str]:
    """Of one method with its settings."""
    told = {"loss": " ".join((type(method).__doc__ or "").split("\n\n")[0].split()).rstrip(".")}
    values = vars(method)
    if "alpha" in values:
        told["alpha"] = f"weighs the soft term: {values['alpha']:g}; the labels' has {1 - values['alpha']:g}"
    if "tau" in values:
        told["tau"] = f"in the loss, on both posteriors: {values['tau']:g}"
    if "tau2_scaling" in values and values.get("tfkd_form") != "released":
        told["tau squared"] = "multiplies the soft term" if values["tau2_scaling"] else "is left out"
    return {**told, "over classes": "sum", "over examples": method.over_examples}

"""What the parts of `lm.py` say, from what was measured."""

import statistics


def summary(rounds: list[dict], value: str) -> dict:
    """The median of what was measured, each round's value, and the last round's other facts."""
    whole = [one for one in rounds if value in one]
    if len(whole) < len(rounds):
        return next(one for one in rounds if value not in one)
    values = [one[value] for one in whole]
    return {**whole[-1], value: statistics.median(values), "rounds": values}


def ratios(rows: dict[str, dict], beside: str, value: str) -> dict[str, dict]:
    """Of one contestant to each other one, round by round: median, least and most."""
    own = rows.get(beside, {}).get("rounds", [])
    found = {}
    for name, row in rows.items():
        each = [a / b for a, b in zip(own, row.get("rounds", []), strict=False)]
        if name != beside and each:
            found[name] = {"median": statistics.median(each), "min": min(each), "max": max(each)}
    return found


def read_off(name: str, result: dict, beside: str, value: str) -> dict:
    """What a part says, from what was measured."""
    rows = result["measured"]
    if name == "memory":
        pairs = {key.split()[1]: key for key in rows if key.startswith("chunked") and "mib" in rows[key]}
        told = {
            v: rows[f"dense {v}"]["mib"] / rows[key]["mib"] for v, key in pairs.items() if "mib" in rows[f"dense {v}"]
        }
        return {**result, "dense_to_chunked": told}
    found = ratios(rows, beside, value) if beside else {}
    if name == "engine" and "bare" in found:
        return {**result, "overhead": {key: ratio - 1 for key, ratio in found["bare"].items()}}
    return {**result, f"{beside}_ratio_to": found} if found else result

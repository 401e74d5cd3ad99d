"""python -m minicoder COMMAND: every stage, and the use of what they make."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import tyro

from minicoder.alignment.feedback import feedback
from minicoder.alignment.grpo import grpo
from minicoder.alignment.reward_model import reward
from minicoder.alignment.sft import sft
from minicoder.data.corpus import build_corpus
from minicoder.data.packing import pack
from minicoder.data.recall import recall_pages
from minicoder.data.vocabulary import train_tokenizer
from minicoder.demo import demo
from minicoder.errors import UserError
from minicoder.evaluation.ablation import ablation
from minicoder.evaluation.evaluate import evaluate
from minicoder.evaluation.language import language
from minicoder.execution.doctor import sandbox
from minicoder.scale.engines import data_at_scale
from minicoder.scale.planning import plan_cluster
from minicoder.scale.rewards import rl_tasks
from minicoder.show.report import write_report
from minicoder.training.long_context import extend
from minicoder.training.pretrain import pretrain
from minicoder.use import chat, complete, infill

COMMANDS: dict[str, Callable[..., Any]] = {
    "demo": demo, "data": build_corpus, "data-at-scale": data_at_scale,
    "recall": recall_pages, "tokenizer": train_tokenizer, "pack": pack,
    "pretrain": pretrain, "extend": extend, "language": language, "ablation": ablation,
    "sft": sft, "feedback": feedback, "reward": reward, "grpo": grpo,
    "rl-tasks": rl_tasks, "plan": plan_cluster,
    "evaluate": evaluate, "report": write_report, "complete": complete,
    "infill": infill, "chat": chat, "sandbox": sandbox,
}


TOGETHER = {"pretrain"}     # commands that torchrun may start on many processes
PATIENCE = 5.0  # seconds that the first of many processes has to speak for all


def _terminate(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def _refuse_many(words: list[str]) -> None:
    """Raise `UserError` for a command that one process runs, started as several."""
    many = int(os.environ.get("WORLD_SIZE", "1"))
    if many > 1 and words and words[0] in COMMANDS.keys() - TOGETHER:
        raise UserError(f"{words[0]} runs in one process, and torchrun started {many}: "
                        f"only {', '.join(sorted(TOGETHER))} shares its work.")


def _end(status: int, message: str = "") -> int:
    """Say why the command ends, and give `status`: of many processes, one speaks.

    torchrun ends all when one has ended, so the others wait for the first; who lives
    on has a trouble of its own.
    """
    rank = int(os.environ.get("RANK", "0"))
    if rank:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(PATIENCE)
        message = message and f"process {rank}: {message}"
    if message:
        print(f"minicoder: {message}", file=sys.stderr)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)   # nothing is left to interrupt
    return status


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 2 for a mistake of the caller, 130 when interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    signal.signal(signal.SIGTERM, _terminate)
    main_process = os.environ.get("RANK", "0") == "0"
    try:
        _refuse_many(words)
        status = tyro.extras.subcommand_cli_from_dict(
            COMMANDS, prog="python -m minicoder", args=words,
            description="DeepSeek-Coder-V2, rebuilt small enough to read and run.",
            console_outputs=main_process)
    except UserError as error:
        if debug:
            raise
        return _end(2, str(error))
    except BrokenPipeError:  # whoever read the output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # a file that may not be read or written
        if debug:
            raise
        return _end(2, f"{error}.")
    except KeyboardInterrupt:
        if main_process:
            print("\nminicoder: interrupted; the same command goes on from here.",
                  file=sys.stderr)
        return 130
    except SystemExit as error:     # words that are no command's
        raise SystemExit(error.code and _end(error.code)) from None
    return status if isinstance(status, int) else 0


if __name__ == "__main__":
    sys.exit(main())

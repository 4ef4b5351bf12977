"""The story as data: what is shown can be run, and nothing is told that is not observed."""

import shlex

from kubeocean.demo.cast import LENDERS, manifests
from kubeocean.demo.story import Forward, Hear, Observe, Run, build_story

STORY = build_story(real=True)
COMMANDS = [act.line for step in STORY for act in step.acts if isinstance(act, Run | Hear | Forward)]


def test_every_step_is_observed() -> None:
    assert [step.title for step in STORY if not any(isinstance(act, Observe | Hear | Forward) for act in step.acts)] == []


def test_only_kubectl_and_cat_are_run() -> None:
    assert {shlex.split(line)[0] for line in COMMANDS} == {"kubectl", "cat"}


def test_every_file_a_command_reads_is_laid_out() -> None:
    named = {word for line in COMMANDS for word in shlex.split(line) if word.endswith(".yaml")}
    assert named == set(manifests(real=True)), "a command reads a file that nobody writes, or a file is read by none"


def test_every_context_is_one_of_a_lender() -> None:
    words = [shlex.split(line) for line in COMMANDS]
    named = {line[line.index("--context") + 1] for line in words if "--context" in line}
    assert named == {lender.context for lender in LENDERS}


def test_both_views_and_the_bindings_are_shown_wide() -> None:
    assert "kubectl get cb,rlp,nodes -o wide" in COMMANDS
    assert "kubectl get pods -o wide" in COMMANDS
    assert all(f"kubectl --context {lender.context} -n kubeocean-demo get pods -o wide" in COMMANDS for lender in LENDERS)


def test_without_a_real_node_there_is_one_step_less_and_nothing_else_is_different() -> None:
    played = build_story(real=False)
    assert [step for step in STORY if step not in played] == [next(step for step in STORY if "real container" in step.title)]
    assert [step for step in STORY if step in played] == list(played)

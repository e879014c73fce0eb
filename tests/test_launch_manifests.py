"""gke.yaml, jobset.yaml and skypilot.yaml: what they say, and that their own parsers take it."""

import json
import math
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from tests.launch_box import LAUNCH, UV, Box, read, write


def only(items):
    (item,) = items
    return item


def ends_for_good(job):
    """What fails a Job at once, instead of starting its pod again."""
    rule = only(r for r in job["podFailurePolicy"]["rules"] if r["action"] == "FailJob")
    return rule["onExitCodes"]


def check_pod(pod):
    container = only(pod["containers"])
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    assert pod["restartPolicy"] == "Never" and pod["terminationGracePeriodSeconds"] > 60
    return container


BAD_INPUT_OR_DIVERGED = {"containerName": "train", "operator": "In", "values": [2, 3]}


def test_kubernetes_job_agrees_with_itself_and_with_the_exit_codes():
    service, job = read("gke.yaml")
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    container = check_pod(pod)
    address, count, index = container["args"][0].split("=")[1].split(",")
    name = job["metadata"]["name"]
    assert address.split(":")[0] == f"{name}-0.{service['metadata']['name']}"
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": name}
    assert int(count) == spec["completions"] == spec["parallelism"]
    assert index == "$(JOB_COMPLETION_INDEX)" and spec["completionMode"] == "Indexed"
    assert ends_for_good(spec) == BAD_INPUT_OR_DIVERGED
    assert spec["podFailurePolicy"]["rules"][1]["action"] == "Ignore"


def test_jobset_agrees_with_itself_and_with_the_exit_codes():
    jobset = only(read("jobset.yaml"))
    job = only(jobset["spec"]["replicatedJobs"])["template"]["spec"]
    pod = job["template"]["spec"]
    container = check_pod(pod)
    chips = container["resources"]["limits"]["google.com/tpu"]
    topology = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
    assert chips * job["parallelism"] == math.prod(int(side) for side in topology.split("x"))
    assert job["parallelism"] == job["completions"] and job["completionMode"] == "Indexed"
    assert "--distributed=auto" in container["args"]  # GKE tells the processes of each other
    # Whatever ends one process ends its Job, and the JobSet starts all of them again …
    assert job["backoffLimit"] == 0 and jobset["spec"]["failurePolicy"]["maxRestarts"] > 0
    # … except where that would end the same.
    assert ends_for_good(job) == BAD_INPUT_OR_DIVERGED
    rule = only(jobset["spec"]["failurePolicy"]["rules"])
    assert rule == {"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}


class Sky(Box):
    """A machine of SkyPilot: its variables, the task's own, uv, and nvidia-smi or none."""

    def __init__(self, path, gpus):
        super().__init__(path)
        self.task = only(read("skypilot.yaml"))
        write(path / "bin/uv", UV)
        write(path / "bin/nvidia-smi", f"exit {0 if gpus else 1}")

    def does(self, step, nodes=1, rank=0, codes=(0,)):
        self.say("codes", codes)
        given = {
            "SKYPILOT_NUM_NODES": str(nodes), "SKYPILOT_NODE_RANK": str(rank),
            "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "RUN": "a",
            "FLAGS": "--config.seed=1 --config.optim.lr=0.1",
        }  # fmt: skip
        return subprocess.run(
            ["bash", "-c", self.task[step]], cwd=self.repo, timeout=60,
            env=self.environment(**{**self.task["envs"], **given}),
        ).returncode  # fmt: skip


@pytest.mark.parametrize("gpus,platform,package", [(8, "gpu", "cuda"), (0, "tpu", "tpu")])
def test_skypilot_takes_gpus_or_tpus_as_it_finds_them(tmp_path, gpus, platform, package):
    machine = Sky(tmp_path, gpus)
    assert machine.does("setup") == 0
    assert f"--editable .[{package},gcs]" in machine.noted("installed")[-1]
    assert machine.does("run", codes=[1, 0]) == 0  # a crash is tried again on the machine
    assert set(machine.noted("runs")) == {
        "-m lficam_jax.main --config configs/imagenet.py --workdir gs://my-bucket/runs/a "
        f"--config.seed=1 --config.optim.lr=0.1 --config.parallel.platform={platform}"
    }
    assert len(machine.noted("runs")) == 2


def test_skypilot_joins_its_nodes(tmp_path):
    machine = Sky(tmp_path, 8)
    assert machine.does("run", nodes=2, rank=1, codes=[3]) == 3  # and 3 is not tried again
    assert "--distributed=10.0.0.1:8476,2,1" in only(machine.noted("runs"))


def test_skypilot_goes_on_behind_a_preemption_in_the_same_workdir():
    task = only(read("skypilot.yaml"))
    resources = task["resources"]
    assert resources["use_spot"] and resources["job_recovery"]["recover_on_exit_codes"] == [143]
    assert task["envs"]["STORE"].startswith("gs://") and '"$STORE/runs/$RUN"' in task["run"]
    kinds = {choice["accelerators"].split("-")[0] for choice in resources["any_of"]}
    assert {"tpu", "H100:8"} <= kinds


@pytest.mark.crosscheck
@pytest.mark.skipif(not find_spec("sky"), reason="needs skypilot")
def test_skypilot_reads_its_task(tmp_path):
    """In a process and a home of its own: it writes ~/.sky."""
    code = "import sys, sky; print(len(sky.Task.from_yaml(sys.argv[1]).resources))"
    environment = {**os.environ, "HOME": str(tmp_path), "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}

    def parsed(path):
        command = [sys.executable, "-c", code, str(path)]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    text = (LAUNCH / "skypilot.yaml").read_text()
    done = parsed(LAUNCH / "skypilot.yaml")
    choices = len(only(read("skypilot.yaml"))["resources"]["any_of"])
    assert done.returncode == 0 and done.stdout.split()[-1] == str(choices), done.stderr
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(text.replace("use_spot", "use_spots"))
    assert "did you mean 'use_spot'" in parsed(wrong).stderr


@pytest.mark.crosscheck
def test_kubernetes_knows_every_field():
    kubernetes = pytest.importorskip("kubernetes_validate")
    jobs = [
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a"}, **each["template"]}
        for each in only(read("jobset.yaml"))["spec"]["replicatedJobs"]
    ]
    for manifest in [*read("gke.yaml"), *jobs]:
        kubernetes.validate(manifest, "1.33", strict=True)


def within(ours, theirs):
    """Whether nothing of ours is missing; they add defaults."""
    if isinstance(ours, dict):
        return all(key in theirs and within(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(within, ours, theirs))
    return ours == theirs


@pytest.mark.crosscheck
def test_jobset_knows_every_field():
    """Models generated from JobSet's own API: what they do not know, they drop."""
    models = pytest.importorskip("kubeflow_trainer_api.models")
    jobset = only(read("jobset.yaml"))
    known = json.loads(models.JobsetV1alpha2JobSet.from_dict(jobset).to_json())
    assert within(jobset, known)
    jobset["spec"]["failurePolicy"]["maxRestart"] = 3
    assert not within(jobset, json.loads(models.JobsetV1alpha2JobSet.from_dict(jobset).to_json()))

import pytest

from minicoder.errors import UserError
from minicoder.scale.devices import DEVICES, find_device, paper_utilisation


def test_the_papers_own_utilisation():
    # 172.8K hours for 1T tokens: 1,607 tokens a second and GPU
    assert paper_utilisation(causal=False) == pytest.approx(0.30, abs=0.005)
    assert paper_utilisation() == pytest.approx(0.25, abs=0.005)


def test_devices_are_found_by_name():
    for name, device in DEVICES.items():
        assert find_device(name) is device and device.source
        assert device.peak("bfloat16") > device.peak("float32")
        assert device.node_link > device.network
    with pytest.raises(UserError, match="--device b9000: choose one of h800"):
        find_device("b9000")

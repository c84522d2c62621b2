"""What a tutor would say of slips in own code: why it matters, what to write instead, how sure it is. Floor 10."""

from __future__ import annotations

from typing import Literal

CODE: dict[str, tuple[str, str, Literal["sure", "likely", "hint"]]] = {
    "layer-called-on-tensor": (
        "nn.ReLU and its like are classes: called with a tensor they make a layer whose setting is that tensor, and compute "
        "nothing",
        "write torch.relu(x), or self.act = nn.ReLU() in __init__ and self.act(x) in forward",
        "sure",
    ),
    "layer-made-in-forward": (
        "forward runs once per batch, and so this layer is new each time: its weights are drawn anew and never learn, and a "
        "Dropout is in training mode for ever",
        "make it once in __init__ (self.NAME = ...) and call it in forward",
        "sure",
    ),
    "unregistered-layers": (
        "torch finds layers that are attributes, not those in a list or dictionary: these are not trained, not saved, not moved "
        "to a GPU",
        "wrap it: nn.ModuleList([...]), nn.ModuleDict({...}) or nn.ParameterList([...])",
        "sure",
    ),
    "state-not-registered": (
        "a plain tensor does not move with model.to(device) and is not saved with the weights",
        'write self.register_buffer("NAME", tensor), or nn.Parameter(tensor) if it shall learn',
        "likely",
    ),
    "fixed-device": (
        "a device written into the network fails on a machine without it, and parts the network from its input on another",
        "leave it out; new tensors go where the input is: device=x.device",
        "sure",
    ),
    "fixed-dtype": (
        "a dtype written into forward does not meet weights of another dtype, and double is many times slower on a GPU",
        "leave it out; training.precision decides",
        "likely",
    ),
    "cut-gradient": (
        "here the path of the gradient ends: .data, .detach() and .numpy() give numbers without their history, so that the layers "
        "before learn nothing from it",
        "go on with the tensor itself",
        "likely",
    ),
    "no-grad-in-forward": (
        "nothing inside gets a gradient, so that the layers used there do not learn",
        "leave it out; validation and prediction switch gradients off themselves. To freeze layers use requires_grad_(False)",
        "likely",
    ),
    "missing-super-init": (
        "torch cannot keep layers before nn.Module has been set up",
        "begin __init__ with super().__init__()",
        "sure",
    ),
    "dropout-always-on": (
        "F.dropout does not know whether the network trains: without training= it drops in prediction and validation too",
        "write F.dropout(x, p, training=self.training), or nn.Dropout(p) in __init__",
        "sure",
    ),
    "squeeze-without-dim": (
        "squeeze() takes away every axis of length 1: with one row in a batch also the axis of the rows",
        "name the axis: x.squeeze(1)",
        "likely",
    ),
    "fixed-batch-size": (
        "the number of rows is written into the shape: a smaller last batch fails, or rows are cut anew",
        "write x.view(len(x), -1), or flatten(1)",
        "likely",
    ),
    "mode-changed-in-forward": (
        "the mode is for the caller to say: dropout and BatchNorm then do in training what they should do in use, or the reverse",
        "leave it out; training and prediction set the mode themselves",
        "sure",
    ),
    "result-thrown-away": (
        "the result of this call is not kept; tensors do not change by it",
        "write x = ... in front of it",
        "sure",
    ),
}

"""Image classifiers by name: random weights from a seed, sized for images of 8 to 64 pixels.

ResNet, MobileNetV2 and ViT are transformers' own, from a configuration; their first layers, made for photographs
of 224 pixels, throw away less of a small image here. MLP and CNN are plain layers.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from kdnb.catalog import SOURCES, Source, model_behind
from kdnb.core.batches import Inputs
from kdnb.core.config import RunConfig
from kdnb.data.pixels import normalized
from kdnb.data.splits import TaskData
from kdnb.models.dropout import Dropout

HIDDEN = 128  # units between a CNN's last feature map and its classifier


class ImageClassifier(nn.Module):
    """A body that turns images into features (N, width), then dropout - linear; the head runs in float32."""

    def __init__(self, body: nn.Module, width: int, num_classes: int, dropout: float, seed: int):
        super().__init__()
        self.body, self.dropout = body, Dropout(dropout, seed)
        self.classifier = nn.Linear(width, num_classes)
        self.norms = [part for part in body.modules() if isinstance(part, nn.BatchNorm2d)]
        for norm in self.norms:
            norm.momentum = 0.1  # MobileNetV2's 0.997 means the opposite in torch: only the last batch would count
        convolves = any(isinstance(part, nn.Conv2d) for part in body.modules())
        self.layout = torch.channels_last if convolves else torch.contiguous_format  # what a CPU convolves fastest
        self.to(memory_format=self.layout)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Logits (N, K) float32 from (N, C, H, W) float32."""
        if self.training:
            for norm in self.norms:
                norm.train(len(pixel_values) > 1)  # a batch of one has no spread: it is taken at the running one
        features = self.body(pixel_values.contiguous(memory_format=self.layout))
        with torch.autocast(features.device.type, enabled=False):  # bf16 logits would have 8 bits
            return self.classifier(self.dropout(features.float()))


class Features(nn.Module):
    """A transformers model read at its pooled features, or at its first token where it pools nothing; (N, width)."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Features (N, width) from (N, C, H, W)."""
        output = self.model(pixel_values)
        return output.last_hidden_state[:, 0] if output.pooler_output is None else output.pooler_output.flatten(1)


def build(config: RunConfig, data: TaskData) -> ImageClassifier:
    """The untrained image classifier of a run, all of it from the seed; ValueError if the student reads no images."""
    source = SOURCES[model_behind(config)]
    images = data.splits["train"].images
    assert images is not None, "a model of images for a task of texts"  # model_of refuses it
    shape = images.shape[1:]
    return untrained(source, shape, data.task.num_classes, config.dropout, config.seed)


def encode(_name: str, data: TaskData, _max_length: int) -> dict[str, Inputs]:
    """The images of all splits; any model reads the same."""
    return dict(normalized(data.splits))


def untrained(
    source: Source, shape: tuple[int, int, int], num_classes: int, dropout: float, seed: int
) -> ImageClassifier:
    """An untrained classifier for images of some size.

    Args:
        source: an entry of SOURCES of the kind "image".
        shape: of its images, (C, H, W).
        num_classes: K.
        dropout: before the classifier, 0..1 [-].
        seed: of all weights, and of dropout.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body, width = BODIES[source.where](source.layers, shape)
        return ImageClassifier(body, width, num_classes, dropout, seed)


def _mlp(hidden: tuple[int, ...], shape: tuple[int, int, int]) -> tuple[nn.Module, int]:
    """Linear - ReLU layers of some widths on the flattened image."""
    widths = [shape[0] * shape[1] * shape[2], *hidden]
    layers = [nn.Flatten()]
    for before, after in zip(widths, hidden, strict=False):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers), hidden[-1]


def _cnn(channels: tuple[int, ...], shape: tuple[int, int, int]) -> tuple[nn.Module, int]:
    """Convolution 3 by 3 - ReLU - max pooling, for some numbers of channels, then one hidden layer."""
    layers, side = [], min(shape[1:])
    for before, after in zip([shape[0], *channels], channels, strict=False):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        side //= 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels[-1] * side * side, HIDDEN), nn.ReLU()), HIDDEN


def _resnet(depths: tuple[int, ...], shape: tuple[int, int, int], layer: str = "basic") -> tuple[nn.Module, int]:
    """A residual network: blocks per stage. Three stages from 16 channels up are those of He et al. 2016 for CIFAR,
    four from 64 up those for ImageNet; the stem is one convolution 3 by 3, of stride 2 above 32 pixels. Layers of the
    kind "bottleneck" have four times the channels."""
    from transformers import ResNetConfig, ResNetModel

    first = 16 if len(depths) == 3 else 64
    widths = [first * (4 if layer == "bottleneck" else 1) * 2**stage for stage in range(len(depths))]
    config = ResNetConfig(
        num_channels=shape[0], embedding_size=first, hidden_sizes=widths, depths=list(depths), layer_type=layer
    )
    model = ResNetModel(config)
    stem = nn.Conv2d(shape[0], first, 3, stride=1 if shape[1] <= 32 else 2, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    model.embedder.embedder.convolution, model.embedder.pooler = stem, nn.Identity()
    return Features(model), widths[-1]


def _mobilenetv2(percent: tuple[int, ...], shape: tuple[int, int, int]) -> tuple[nn.Module, int]:
    """MobileNetV2 at some percentage of its channels. Up to 32 pixels its stem keeps the image's size and its last
    map is a fourth of it a side, above that a sixteenth."""
    from transformers import MobileNetV2Config, MobileNetV2Model

    small = shape[1] <= 32
    config = MobileNetV2Config(
        num_channels=shape[0], image_size=shape[1], depth_multiplier=percent[0] / 100, output_stride=8 if small else 16
    )
    model = MobileNetV2Model(config)
    if small:
        model.conv_stem.first_conv.convolution.stride = (1, 1)
    return Features(model), model.conv_1x1.convolution.out_channels


def _vit(size: tuple[int, ...], shape: tuple[int, int, int]) -> tuple[nn.Module, int]:
    """A vision transformer: (layers, width), heads of 16, patches of 2 pixels in tiny images, 4 or 8 in larger."""
    from transformers import ViTConfig, ViTModel

    layers, width = size
    config = ViTConfig(
        num_channels=shape[0],
        image_size=shape[1],
        patch_size=2 if shape[1] < 16 else 4 if shape[1] <= 32 else 8,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 16,
        intermediate_size=2 * width,
        attn_implementation="eager",
    )
    return Features(ViTModel(config, add_pooling_layer=False)), width


BODIES: dict[str, Callable[[tuple[int, ...], tuple[int, int, int]], tuple[nn.Module, int]]] = {
    "mlp": _mlp,
    "cnn": _cnn,
    "resnet": _resnet,
    "bottleneck": partial(_resnet, layer="bottleneck"),
    "mobilenetv2": _mobilenetv2,
    "vit": _vit,
}

"""The segmentation task: a network of segmentation_models_pytorch, its loss, inference and scores."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import lightning
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Adam

from fedlight.batch import Batch, is_volume
from fedlight.data_format import DataFormat
from fedlight.geometry import restore
from fedlight.metrics import score_calibration, score_case
from fedlight.tasks.factories import unwrapped
from fedlight.tasks.federated_module import FederatedModule, OptimizerFactory, Row, SchedulerFactory
from fedlight.tasks.losses import dice_cross_entropy
from fedlight.tasks.views import mean_over_views

_ADAM = partial(Adam, lr=3e-3)
_NOT_SAVED = ("self", "optimizer", "scheduler")


class SegmentationTask(FederatedModule):
    """Assigns a class to every pixel of a 2-D image; volumes are segmented slice by slice and scored as volumes.

    Two classes are a binary task with one logit and a sigmoid; more have a logit each and a softmax.

    Args:
        architecture: Class name of a segmentation_models_pytorch model: Unet, UnetPlusPlus, FPN, DeepLabV3Plus, ...
        encoder: Name of an encoder: plain-8, plain-16 (half a million parameters in a Unet), plain-32, plain-64 or
            any that segmentation_models_pytorch knows, such as resnet34 or tu-convnext_tiny.
        encoder_weights: Pretrained weights: a local .safetensors or .pt file, or a name on the hub such as imagenet.
        encoder_depth: Number of stages of the encoder; the encoder's or architecture's own default if left out.
        decoder_channels: Widths of the decoder's blocks, coarse to fine; a default that suits the encoder if left out.
        classes: Names of the classes, background first; those of the data if left out.
        in_channels: Channels of an image; those of the data if left out.
        norm: "group" replaces every BatchNorm by GroupNorm (no running statistics); "batch" leaves them.
        dice_weight: Weight of the Dice loss; 0 leaves it out.
        cross_entropy_weight: Weight of the cross-entropy; 0 leaves it out.
        batch_dice: Whether Dice counts the pixels of a batch together (steadier for small structures) or is a mean
            over images.
        optimizer: Makes the optimizer from the parameters; in a config, class_path and init_args of a torch class.
        scheduler: Makes a learning rate schedule from the optimizer; it counts global rounds.
        window: Size (height, width) of the sliding window for images larger than it; that of the training patches if
            left out, and whole images where whole images are trained (GroupNorm sees what it was trained on).
        overlap: Share of a window that neighbouring windows have in common.
        window_batch: Windows that go through the network at once.
        channels_last: Whether images are laid out channels last for the network, which is faster on most machines;
            values differ from the other layout only by rounding.
    """

    def __init__(
        self,
        architecture: str = "Unet",
        encoder: str = "plain-16",
        encoder_weights: str | None = None,
        encoder_depth: int | None = None,
        decoder_channels: Sequence[int] | None = None,
        classes: Sequence[str] | None = None,
        in_channels: int | None = None,
        norm: Literal["group", "batch"] = "group",
        dice_weight: float = 1.0,
        cross_entropy_weight: float = 1.0,
        batch_dice: bool = True,
        # a lambda, because that is the form of a default that a command line can show and change
        optimizer: OptimizerFactory = lambda params: Adam(params, lr=3e-3),
        scheduler: SchedulerFactory | None = None,
        window: tuple[int, int] | int | None = None,
        overlap: float = 0.25,
        window_batch: int = 8,
        channels_last: bool = True,
    ) -> None:
        default = inspect.signature(SegmentationTask.__init__).parameters["optimizer"].default
        super().__init__(
            _ADAM if optimizer is default else unwrapped(optimizer), None if scheduler is None else unwrapped(scheduler)
        )
        self.architecture = architecture
        self.encoder = encoder
        self.encoder_weights = encoder_weights
        self.encoder_depth = encoder_depth
        self.decoder_channels = decoder_channels
        self._classes = classes
        self._in_channels = in_channels
        self.norm = norm
        self.dice_weight = dice_weight
        self.cross_entropy_weight = cross_entropy_weight
        self.batch_dice = batch_dice
        self.window = window
        self.overlap = overlap
        self.window_batch = window_batch
        self.channels_last = channels_last
        self._stages: dict[str, str] | None = None

    # --- what the data say -------------------------------------------------------------------------------------

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, background first; one foreground class until data or arguments say otherwise."""
        return tuple(self._classes or ("background", "foreground"))

    @property
    def in_channels(self) -> int:
        """Channels of an image; 3 until data or arguments say otherwise."""
        return self._in_channels or 3

    def bind(self, data: DataFormat) -> None:
        """Takes classes, channels and sizes from the data, before the network is built.

        Raises:
            ValueError: If the task was configured for other classes or channels.
        """
        if self._classes is not None and len(self._classes) != len(data.classes):
            raise ValueError(
                f"model.classes must be those of the data, {', '.join(data.classes)}, got "
                f"{', '.join(self._classes)}. Leave model.classes out."
            )
        if self._in_channels not in (None, data.channels):
            raise ValueError(
                f"model.in_channels must be that of the data, {data.channels}, got {self._in_channels}. "
                "Leave model.in_channels out."
            )
        if self.window is not None and not data.patches:
            self._check_window(data.train_size)
        self._classes, self._in_channels, self.placing = data.classes, data.channels, data.placing
        self.window = self.window or (data.train_size if data.patches else None)

    def _check_window(self, size: tuple[int, int]) -> None:
        window = (self.window, self.window) if isinstance(self.window, int) else self.window
        if window is not None and (window[0] > size[0] or window[1] > size[1]):
            raise ValueError(
                f"model.window must not be larger than the images, {size[0]}x{size[1]}, got {window[0]}x{window[1]}. "
                "Leave model.window out."
            )

    def forgo_pretraining(self) -> None:
        """Builds the network without pretrained weights, whose file or hub need not be there any more."""
        self.encoder_weights = None

    # --- the network -------------------------------------------------------------------------------------------

    def configure_model(self) -> None:
        """Builds the network; calling it again does nothing.

        Raises:
            ValueError: If the settings do not make a network or pretrained weights cannot be had.
        """
        if "network" in self._modules:
            return
        self.validate()
        from fedlight.tasks.networks import build_network  # a second of imports that reading a config does not need

        self.network = build_network(
            architecture=self.architecture,
            encoder=self.encoder,
            encoder_weights=self.encoder_weights,
            encoder_depth=self.encoder_depth,
            decoder_channels=self.decoder_channels,
            in_channels=self.in_channels,
            logits=1 if self.binary else len(self.classes),
            norm=self.norm,
        )

    def validate(self) -> None:
        """Checks the arguments that no other part checks.

        Raises:
            ValueError: One sentence with the value, the rule and the way out.
        """
        if len(set(self.classes)) != len(self.classes) or len(self.classes) < 2:
            raise ValueError(
                f"classes must be two or more different names, got {list(self.classes)}. Start with background."
            )
        if min(self.dice_weight, self.cross_entropy_weight) < 0 or not self.dice_weight + self.cross_entropy_weight:
            raise ValueError(
                "dice_weight and cross_entropy_weight must be 0 or more and not both 0, got "
                f"{self.dice_weight} and {self.cross_entropy_weight}. The default of both is 1."
            )
        if not 0 <= self.overlap < 1:
            raise ValueError(f"overlap must be in [0, 1), got {self.overlap}. A quarter of a window is 0.25.")
        if self.window is not None and min(self._window((1, 1))) < 1:
            raise ValueError(f"window must be at least 1 pixel, got {self.window}. Leave it out for whole images.")

    @property
    def binary(self) -> bool:
        """Whether there is one foreground class, and so one logit."""
        return len(self.classes) == 2

    @property
    def stride(self) -> int:
        """What both sides of an image must divide by, once the network is built."""
        encoder: Any = self.network.get_submodule("encoder")
        return int(encoder.output_stride)

    def stages(self) -> Mapping[str, str]:
        """Maps stage names to submodules' names, found once by tracing a small forward pass."""
        if self._stages is None:
            from fedlight.tasks.stages import find_stages

            self.configure_model()
            self._stages = find_stages(self.network, self.in_channels)
        return self._stages

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits (N, K, H, W) for images (N, C, H, W)."""
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return super().forward(images)

    def criterion(self, logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
        """Returns Dice plus cross-entropy over valid pixels, a scalar."""
        return dice_cross_entropy(
            logits,
            masks,
            valid,
            dice_weight=self.dice_weight,
            cross_entropy_weight=self.cross_entropy_weight,
            batch_dice=self.batch_dice,
        )

    def check_examples(self) -> None:
        """Checks that neither network nor loss mixes the images of a batch.

        Raises:
            ValueError: Naming the setting that does.
        """
        super().check_examples()
        if self.batch_dice and self.dice_weight:
            raise ValueError(
                "model.batch_dice must be false, got true: Dice over a batch mixes its images. Set it to false."
            )

    # --- inference ---------------------------------------------------------------------------------------------

    def segment(self, batch: Batch) -> Tensor:
        """Returns class probabilities (N, classes, height, width), float32, on the grid of the cases as read.

        Where cases of a batch differ in size, the smaller ones lie in the top left corner and are 0 elsewhere.
        """
        images = self.seen(batch)
        # a volume may have hundreds of slices
        parts = torch.split(images, self.window_batch) if is_volume(batch) else (images,)
        probabilities = torch.cat([mean_over_views(self._chances, part, self.views) for part in parts])
        sizes = [(int(height), int(width)) for height, width in batch["size"].tolist()]
        cases = [restore(probabilities[i : i + 1], size, self.placing) for i, size in enumerate(sizes)]
        height, width = max(size[0] for size in sizes), max(size[1] for size in sizes)
        return torch.cat([F.pad(case, (0, width - case.shape[-1], 0, height - case.shape[-2])) for case in cases])

    def score(self, batch: Batch) -> list[Row]:
        """Returns one row a case: "case", then the numbers of ``fedlight.metrics``, all only if ``detailed``."""
        chances = self.chances(batch)
        spacing = batch["spacing"][0].tolist()
        if is_volume(batch) and len(chances) > 1:
            stacked = chances.transpose(0, 1)  # (classes, S, H, W)
            return [self._score_one(batch["case"][0], stacked, batch["mask"], batch["valid"], spacing)]
        return [self._score_image(batch, i, probabilities) for i, probabilities in enumerate(chances)]

    def _score_image(self, batch: Batch, index: int, probabilities: Tensor) -> Row:
        height, width = batch["size"][index].tolist()
        mask, valid = (batch[name][index, :height, :width] for name in ("mask", "valid"))
        spacing = batch["spacing"][index, -2:].tolist()  # also of a volume that is a single slice
        return self._score_one(batch["case"][index], probabilities[:, :height, :width], mask, valid, spacing)

    def _score_one(self, case: str, chances: Tensor, mask: Tensor, valid: Tensor, spacing: Sequence[float]) -> Row:
        scores = score_case(
            prediction=chances.argmax(0),
            mask=mask,
            valid=valid,
            spacing=tuple(spacing),
            classes=self.classes,
            distances=self.detailed,
        )
        if self.detailed:
            scores |= score_calibration(chances, mask, valid, self.classes)
        return {"case": case, **scores}

    def _chances(self, images: Tensor) -> Tensor:
        return self._probabilities(self._logits(images))

    def _probabilities(self, logits: Tensor) -> Tensor:
        if not self.binary:
            return logits.float().softmax(1)
        foreground = logits.float().sigmoid()
        return torch.cat([1 - foreground, foreground], dim=1)  # (N, 2, H, W)

    def _logits(self, images: Tensor) -> Tensor:
        """Runs the network over whole images, in windows where they are larger than the window."""
        size = (images.shape[-2], images.shape[-1])
        window = self._window(size)
        if window == size:
            return self._padded(images)
        from monai.inferers import SlidingWindowInferer

        infer = SlidingWindowInferer(window, self.window_batch, self.overlap, mode="gaussian")
        return infer(images, self._padded)  # type: ignore[no-any-return]

    def _window(self, size: tuple[int, int]) -> tuple[int, int]:
        if self.window is None:
            return size
        height, width = (self.window, self.window) if isinstance(self.window, int) else self.window
        return min(height, size[0]), min(width, size[1])

    def _padded(self, images: Tensor) -> Tensor:
        """Runs the network on images whose sides need not divide by its stride.

        They are padded to the right and below by repeating the last pixel: unlike zeros that adds no edge, and unlike
        mirroring it is defined for every size. GroupNorm sees the padding, less than one stride of it.
        """
        height, width = images.shape[-2:]
        logits = self(F.pad(images, (0, -width % self.stride, 0, -height % self.stride), mode="replicate"))
        return logits[..., :height, :width]  # type: ignore[no-any-return]

    # --- checkpoints -------------------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """Returns the constructor's plain arguments that rebuild this network, without pretrained weights.

        A subclass that stores its own arguments under their names is covered. Optimizer and schedule are not part of
        a model.
        """
        names = [name for name in inspect.signature(type(self).__init__).parameters if name not in _NOT_SAVED]
        values = {name: getattr(self, name) for name in names}
        plain = {
            name: list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
            for name, value in values.items()
        }
        return {**plain, "encoder_weights": None}

    def checkpoint(self) -> dict[str, Any]:
        """Returns what a file needs that ``SegmentationTask.load_from_checkpoint`` opens: tensors and plain values."""
        checkpoint = {
            "state_dict": {name: value.detach().cpu().clone() for name, value in self.state_dict().items()},
            "pytorch-lightning_version": lightning.__version__,
        }
        self.on_save_checkpoint(checkpoint)
        return checkpoint

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Makes a checkpoint that a Trainer saves open in the same way."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["hyper_parameters"] = self.settings()

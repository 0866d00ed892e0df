"""What the families share whose generator turns a code into a map: GAN, alpha-GAN and VAE."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from csegsynth_kit.constants import TISSUES
from csegsynth_kit.data.features import Features
from csegsynth_kit.errors import ConfigError
from csegsynth_kit.maps import Grid, at_once
from csegsynth_kit.models import compact, published, terms
from csegsynth_kit.models.base import Family, Rng, TrainingSet
from csegsynth_kit.models.calibration import calibrate, maps_drawn
from csegsynth_kit.models.start import (
    numbers_held,
    start_from_components,
    start_from_regression,
)
from csegsynth_kit.models.texture import Texture

#: Voxels of training maps that tell what textures are like, and how many maps at least.
_TEXTURES_FROM, _LEAST_MAPS = 13_000_000, 16


@dataclass(frozen=True)
class CodeConfig:
    """Hyper-parameters of generator and conditioning.

    Args:
        grid: Voxels of the maps.
        architecture: ``published`` or ``compact`` networks.
        base: Channel base of the published networks (32 in the paper).
        latent: Entries of the code, and spatial templates, of the compact networks.
        spare: Code entries that pre-training leaves unused; fine-tuning gives them to what its
            cohort shows and the pre-training cohort did not, such as old age.
        doublings: Doublings from the template grid to ``grid``, which must be divisible by
            2 ** (doublings + 1).
        width: Channels of the compact generator's refining convolutions.
        waves: Plane waves of the texture that compact generators add, which takes 8 entries of
            the latent each; 0 for none. See ``models.texture``.
        reader_widths: Channels per level of the compact encoder and critic, fine to coarse, from
            patches of 4 voxels on; the grid must be divisible by 2 ** (len(reader_widths) + 1).
        hidden: Width of the compact code critic and transform.
        component_start: Start compact generator and encoder from principal components.
        regression_start: Start the compact transform from the regression of codes on features.
        regression_restart: Start it again there after every epoch that is validated, on the codes
            as they are then: for trainings in which codes change a lot. What it learned
            meanwhile is forgotten.
        volume_start: Correct that start until its draws have the volumes that a regression of
            the volumes gives; see ``calibration``.
        answer_flags: Tell the model which questions are unanswered.
        volume_loss: ``energy`` score of several draws, or the published ``absolute`` error.
        volume_draws: Draws per person where an energy score is taken; at least 2.
    """

    grid: Grid
    architecture: Literal["published", "compact"] = "compact"
    base: int = 32
    latent: int = 64
    spare: int = 0
    doublings: int = 0
    width: int = 16
    waves: int = 0
    reader_widths: tuple[int, ...] = (64,)
    hidden: int = 128
    component_start: bool = True
    regression_start: bool = True
    regression_restart: bool = False
    volume_start: bool = True
    answer_flags: bool = True
    volume_loss: terms.VolumeLoss = "energy"
    volume_draws: int = 2

    def __post_init__(self):
        terms.require_draws(self.volume_draws)
        startable = self.architecture == "compact" and self.regression_start
        if self.regression_restart and not startable:
            raise ConfigError(
                "a transform that does not start at a regression cannot restart there",
                "Set regression_restart to False, or regression_start with compact networks.",
            )

    def maps_between_epochs(self, people: int, *, conditional: bool) -> int:
        """How many maps are drawn to settle, with so many training participants."""
        calibrated = conditional and self.regression_restart and self.volume_start
        return maps_drawn(people) if calibrated else 0

    def numbers_to_start(self, people: int) -> int:
        """How many numbers (of 4 bytes) a start holds of so many training participants."""
        if self.architecture != "compact":
            return 0
        per_map = len(TISSUES) * math.prod(self.grid.shape)
        components = numbers_held(people, per_map // 8**self.doublings)
        textures = 2 * per_map * self.maps_for_texture(people)  # as they are, and reconstructed
        return max(components * self.component_start, textures * (self.waves > 0))

    def maps_for_texture(self, people: int) -> int:
        """How many of so many training participants tell what textures are like."""
        return min(people, max(_LEAST_MAPS, _TEXTURES_FROM // math.prod(self.grid.shape)))


class CodeFamily(Family):
    """Base of the families with a code: generator, spare entries, start from components.

    A subclass defines ``reader``, ``transform`` and ``encode`` besides the contract.
    """

    #: Maps (N, L) random codes and (N, n_inputs) features to codes of such people.
    transform: nn.Module

    def __init__(self, config: CodeConfig, features: Features | None):
        super().__init__(config, features)
        c = config
        self.texture: Texture | None = None
        if c.architecture == "published":
            self.code_length = published.latent_length(c.base)
            self.generator = published.PublishedGenerator(c.grid, c.base)
        else:
            self.code_length = c.latent
            self.generator = compact.CompactGenerator(c.grid, c.doublings, c.latent, c.width)
            self.texture = Texture(c.grid, 2**c.doublings, c.waves) if c.waves else None
        #: Entries of the code that pre-training uses.
        self.used = self.code_length - c.spare
        self.latent_shape = (self.code_length + (self.texture.length if self.texture else 0),)
        self.n_inputs = 0
        if features is not None:
            self.n_inputs = features.n_inputs if c.answer_flags else len(features.names)

    @property
    def objective(self):
        """The weights of the stage this model is in."""
        return self.config.conditional if self.conditional else self.config.unconditional

    @property
    def reader(self) -> compact.ComponentReader:
        """The compact network that reads codes off maps by principal components."""
        raise NotImplementedError

    def encode(self, maps: Tensor) -> Tensor:
        """Map (N, T, X, Y, Z) maps to (N, L) codes."""
        raise NotImplementedError

    def code(self, latents: Tensor, features: Tensor | None) -> Tensor:
        """Map the first L entries of latents to the codes (N, L) of people with these features."""
        noise = latents[:, : self.code_length]
        if not self.conditional:
            return self.without_spare(noise)
        return self.transform(noise, features[:, : self.n_inputs])

    def textured(self, logits: Tensor, latents: Tensor) -> Tensor:
        """Add the texture that the last entries of latents give; none without these entries."""
        return self.with_texture(logits, self.texture_of(latents))

    def texture_of(self, latents: Tensor) -> Tensor | None:
        """Random fields (N, T, X, Y, Z) that the last entries of latents give, if there are any."""
        if self.texture is None or latents.shape[1] == self.code_length:
            return None
        return self.texture.fields(latents[:, self.code_length :])

    def with_texture(self, logits: Tensor, fields: Tensor | None) -> Tensor:
        """Add what :meth:`texture_of` gives to logits (N, T, X, Y, Z)."""
        return logits if fields is None else self.texture.added(logits, fields)

    def logits_from(self, latents: Tensor, features: Tensor | None) -> Tensor:
        """Map (N, *latent_shape) latents and (N, n_inputs) features to (N, T, X, Y, Z) logits."""
        return self.textured(self.generator(self.code(latents, features)), latents)

    def without_spare(self, code: Tensor) -> Tensor:
        """Set the entries to 0 that pre-training leaves to fine-tuning."""
        if self.conditional or not self.config.spare:
            return code
        return F.pad(code[:, : -self.config.spare], (0, self.config.spare))

    def new_transform(self, kind: type[compact.CompactTransform] = compact.CompactTransform):
        """Build T for this model's features."""
        c = self.config
        if c.architecture == "published":
            return published.PublishedTransform(self.n_inputs, c.base)
        curved = [i for i, name in enumerate(self.features.names) if name == "age"]
        return kind(self.n_inputs, c.latent, c.hidden, curved)

    @property
    def energy_scored(self) -> bool:
        """Whether fine-tuning takes an energy score of a person's draws."""
        return self.config.volume_loss == "energy"

    @property
    def draws_per_person(self) -> int:
        """Maps generated per person and step."""
        return self.config.volume_draws if self.conditional and self.energy_scored else 1

    def fit_statistics(self, training: TrainingSet) -> None:
        """Take volume units, and start where principal components and regression lead to."""
        super().fit_statistics(training)
        if self.config.architecture != "compact":
            return
        used, everything = self.used, self.code_length
        start = partial(start_from_components, self.generator, self.reader)
        if self.config.component_start and not self.warm_started:
            start(training.maps(), first=0, last=used)
        if self.config.component_start and self.conditional:
            start(training.maps(), first=used, last=everything)
        self.fit_texture(training)
        if self.config.regression_start:
            self._regress(training)

    def settle(self, training: TrainingSet) -> Iterable[str]:
        """Fit to the present codes and reconstructions what is fitted to them."""
        self.fit_texture(training)
        if not (self.conditional and self.config.regression_restart):
            return ()
        self.transform.forget()
        self._regress(training)
        own = {id(parameter) for parameter in self.transform.parameters()}
        return [name for name, parameter in self.named_parameters() if id(parameter) in own]

    def _regress(self, training: TrainingSet) -> None:
        if not self.conditional:
            return
        with torch.no_grad():
            codes = torch.cat([self.encode(maps) for maps in training.maps()])
        self.start_transform(codes, training.features, training.volumes, training.persons)

    def rendering_code(self, maps: Tensor, features: Tensor | None) -> Tensor:
        """Map (N, T, X, Y, Z) maps of people to the codes (N, L) of their reconstructions."""
        return self.encode(maps)

    @torch.no_grad()
    def fit_texture(self, training: TrainingSet) -> None:
        """Fit the texture, if there is any, to some of the training participants."""
        if self.texture is None:
            return
        total = len(training.volumes)
        count = self.config.maps_for_texture(total)
        rows = torch.linspace(0, total - 1, count).round().long()  # ids may come by age
        pairs, seen = [], 0
        for maps in training.maps():
            here = rows[(rows >= seen) & (rows < seen + len(maps))].to(maps.device)
            if len(here):
                features = None if training.features is None else training.features[here]
                maps_here = maps[here - seen]  # copies, so that the others can be forgotten
                code = self.rendering_code(maps_here, features)
                pairs.append((maps_here, self.generator(code).float()))
            seen += len(maps)
        draw = Rng(0, total=len(rows), device=self.volume_mean_ml.device).normal
        self.texture.fit(pairs, draw(self.texture.length))

    def start_transform(
        self,
        codes: Tensor,
        features: Tensor,
        volumes_ml: Tensor,
        persons: Sequence[str] | None = None,
    ) -> None:
        """Start a freshly built compact T where regressions on features lead to.

        Args:
            codes: (N, L) codes of training participants' maps.
            features: (N, n_inputs) of the same participants.
            volumes_ml: (N, 3) their volumes (mL).
            persons: (N,) person of each row, where rows may share one.
        """
        inputs = features[:, : self.n_inputs]
        start_from_regression(self.transform, inputs, codes)
        if self.config.volume_start:
            volumes = terms.true_volumes(self, volumes_ml)
            rest = self.latent_shape[0] - self.code_length
            of = self._volumes_of_codes
            calibrate(self.transform, of, inputs, volumes, persons=persons, rest=rest)

    def _volumes_of_codes(self, codes: Tensor) -> Tensor:
        """Standardized volumes (N, 3) of codes and the latents' entries that follow them."""
        volumes = []
        for some in codes.split(at_once(self.config.grid)):
            logits = self.generator(some[:, : self.code_length]).float()
            volumes.append(self.standardized_volumes(self.textured(logits, some).softmax(1)))
        return torch.cat(volumes)

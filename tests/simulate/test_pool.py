from csegsynth_kit.data.parallel import map_in_order
from csegsynth_kit.maps import GRIDS
from csegsynth_kit.simulate.average import template_base
from csegsynth_kit.simulate.pool import Task, Workshop


def test_heads_come_in_the_order_of_the_tasks():
    workshop = Workshop(GRIDS["tiny"], (template_base(4.0),))
    wanted = (507.0, 612.0, 363.0, 24.0)
    tasks = [Task(f"sub-{i}", wanted, (1, i)) for i in (3, 1, 2)]
    drawn = list(map_in_order(workshop.draw, tasks, 1))
    assert [head.participant for head in drawn] == ["sub-3", "sub-1", "sub-2"]
    assert (drawn[1].quantized == workshop.draw(tasks[1]).quantized).all()
    assert drawn[0].quantized.shape == (3, *GRIDS["tiny"].shape)

from .cockpit.widget import (
    Cockpit as Cockpit,
    confusion as confusion,
    embedding_map as embedding_map,
    explore as explore,
    gallery as gallery,
)
from .core.digits import read_digits as read_digits
from .core.inspection import make_inspection as make_inspection, write_inspection as write_inspection
from .core.predictions import (
    Predictions as Predictions,
    load_features as load_features,
    load_predictions as load_predictions,
    make_predictions as make_predictions,
    save_predictions as save_predictions,
)
from .core.runs import Run as Run, load_run as load_run
from .core.settings import Settings as Settings, load_settings as load_settings
from .core.tasks import Task as Task, register_task as register_task
from .core.types import Sample as Sample, Target as Target
from .data.commit import commit as commit
from .data.dataset import Dataset as Dataset
from .data.formats import (
    read_coco as read_coco,
    read_samples as read_samples,
    read_voc as read_voc,
    read_yolo as read_yolo,
)
from .data.golden import add_golden as add_golden, load_golden as load_golden
from .data.label_edits import EditLog as EditLog, commit_edits as commit_edits
from .data.readers import read_folder as read_folder, read_hf as read_hf, read_manifest as read_manifest
from .data.splits import assign_splits as assign_splits
from .data.versions import (
    add_column as add_column,
    checkout as checkout,
    diff as diff,
    list_datasets as list_datasets,
    log as log,
    restore as restore,
    tag as tag,
)
from .evaluation.compare import Comparison as Comparison, compare as compare
from .evaluation.evaluate import (
    Evaluation as Evaluation,
    evaluate as evaluate,
    load_evaluation as load_evaluation,
    save_evaluation as save_evaluation,
)
from .flows.walk import demo as demo, walk as walk
from .inference.embed import embed as embed
from .inference.features import extract_features as extract_features
from .inference.image_text import load_image_text as load_image_text
from .inference.predict import predict as predict
from .model.adapters import (
    DoRA as DoRA,
    FullFineTune as FullFineTune,
    IA3 as IA3,
    LinearProbe as LinearProbe,
    LoRA as LoRA,
    VisualPrompt as VisualPrompt,
)
from .model.backbones import (
    Backbone as Backbone,
    Transform as Transform,
    create_backbone as create_backbone,
    list_backbones as list_backbones,
)
from .model.models import (
    Model as Model,
    create_model as create_model,
    load_model as load_model,
    save_model as save_model,
    what_trains as what_trains,
)
from .report.cards import (
    Card as Card,
    make_card as make_card,
    make_card_page as make_card_page,
    save_questions as save_questions,
)
from .report.figures import (
    find_confusions as find_confusions,
    find_examples as find_examples,
    make_confusion_gallery as make_confusion_gallery,
    make_gallery as make_gallery,
    make_note as make_note,
    make_table as make_table,
    make_tiles as make_tiles,
    plot_breakdown as plot_breakdown,
    plot_calibration as plot_calibration,
    plot_classes as plot_classes,
    plot_confusion as plot_confusion,
    plot_headline as plot_headline,
)
from .report.runner import (
    list_reports as list_reports,
    open_predictions as open_predictions,
    record_file as record_file,
    record_origin as record_origin,
    render_report as render_report,
)
from .report.site import build_site as build_site
from .search.estimate import Estimate as Estimate, estimate as estimate
from .search.presets import adapt as adapt, list_choices as list_choices
from .search.sweep import sweep as sweep
from .search.sweep_plots import (
    plot_importance as plot_importance,
    plot_parallel as plot_parallel,
    plot_tradeoff as plot_tradeoff,
)
from .search.sweep_result import Sweep as Sweep, load_sweep as load_sweep
from .slices.act import collect as collect, rebalance as rebalance
from .slices.cluster_search import (
    MixtureFinder as MixtureFinder,
    RegionFinder as RegionFinder,
)
from .slices.discover import discover_slices as discover_slices, own_features as own_features
from .slices.ledger import (
    Ledger as Ledger,
    accept_slice as accept_slice,
    load_ledger as load_ledger,
    reopen_slice as reopen_slice,
)
from .slices.ledger_check import check_ledger as check_ledger
from .slices.properties import add_properties as add_properties, find_properties as find_properties
from .slices.rule_search import ConditionFinder as ConditionFinder
from .slices.slice import Slice as Slice
from .slices.slice_report import SliceReport as SliceReport
from .slices.slice_tests import (
    Judgement as Judgement,
    find_predictions as find_predictions,
    judge_slice as judge_slice,
    list_slices as list_slices,
    save_slice as save_slice,
    save_slice_test as save_slice_test,
)
from .training.distill import distill as distill
from .training.objectives import Weighted as Weighted
from .training.precompute import fill_cache as fill_cache
from .training.recipe import Recipe as Recipe
from .training.train import train as train

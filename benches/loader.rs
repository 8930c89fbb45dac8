//! Batches of 64 films of 256x256 from shards, made by as many threads as there are cores; and packing beside decoding.

use criterion::Throughput;
use g2d::bench::loader::{self, Synthetic, Work};

mod packing;
mod settings;

fn main() {
    packing::measure();
    let mut criterion = settings::criterion(5);
    let films = Synthetic::write(256).expect("the temporary folder can be written");
    let work = Work { data: films.path().to_owned(), batch: 64, image_size: 256, threads: 0 };
    let mut batches = loader::open(&work).expect("what was written can be read");
    let mut group = criterion.benchmark_group("loader");
    group.throughput(Throughput::Elements(64));
    group.bench_function("64 films of 256x256", |bencher| bencher.iter(|| batches.next()));
    group.finish();
    criterion.final_summary();
}

# Reads a log with Perl's msgpack library: prints each record's keys, checks its CRC, sums a few numbers.
use strict;
use warnings;
use Compress::Zlib qw(crc32);
use Data::MessagePack::Stream;

local $/;
open my $file, '<:raw', $ARGV[0] or die $!;
my $bytes = <$file>;
my $stream = Data::MessagePack::Stream->new;
my ($count, $epochs, $losses, $rows, $start) = (0, 0, 0, 0, 0);
for my $end (1 .. length $bytes) {    # byte by byte: tells where each record ends
    $stream->feed(substr $bytes, $end - 1, 1);
    next unless $stream->next;
    my $record = $stream->data;
    my $body = substr $bytes, $start, $end - $start - 5;
    die "crc of record $count" unless $record->{crc} == crc32($body);
    die "seq of record $count" unless $record->{seq} == $count;
    if ($record->{kind} eq 'epoch') {
        $epochs++;
        $losses += $record->{loss};
        $rows += $_ for @{ $record->{rows} };
    }
    $count++;
    $start = $end;
}
printf "%d %d %.12f %d %d\n", $count, $epochs, $losses, $rows, length($bytes) - $start;

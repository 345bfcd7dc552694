// SPDX-License-Identifier: GPL-2.0-or-later
#include <linux/fs.h>
#include <linux/stat.h>
#include <sys/stat.h>

#include <deque>

#include "base/fuse_iomap_abi.h"
#include "server/ext4/mapping_service.h"
#include "server/fuse/mapping_wire.h"
#include "tests/unit/fuse/dispatcher_fixture.h"

namespace fuse4fs::fuse {
namespace {

using ext4::DataMapping;
using ext4::MappingPurpose;
using ext4::MappingRequest;
using ::testing::_;
using ::testing::Field;
using ::testing::Return;

constexpr std::uint64_t kEverythingAndIomap = 0x0000'0fff'7fff'ffff;
constexpr std::uint32_t kDevice = 7;
constexpr int kBlockDevice = 42;  // never used: the kernel's end is played
constexpr ext4::InodeNumber kInode = 12;

class MockMappings : public ext4::MappingService {
 public:
  MOCK_METHOD(ext4::MappingLimits, mapping_limits, (), (const, override));
  MOCK_METHOD(Result<DataMapping>, map, (ext4::InodeNumber, const MappingRequest&), (override));
  MOCK_METHOD(Result<void>, finish, (ext4::InodeNumber, const ext4::FinishedOperation&), (override));
  MOCK_METHOD(Result<std::uint64_t>, complete_write, (ext4::InodeNumber, const ext4::CompletedWrite&),
              (override));
  void set_mapping_cache(ext4::MappingCache& cache) override { cache_ = &cache; }

  ext4::MappingCache* cache_ = nullptr;
};

// Notes what it is told, and answers as it was told to.
class PlayedKernel : public KernelDevice {
 public:
  struct Told {
    std::int32_t code = 0;
    std::vector<std::byte> what;
  };
  Result<void> notify(int, std::int32_t code, std::span<const std::byte> what) override {
    told_.push_back({code, {what.begin(), what.end()}});
    return answer_;
  }
  Result<std::uint32_t> register_block_device(int, int block_device) override {
    registered_ = block_device;
    return device_;
  }

  template <class Struct>
  Struct told(std::int32_t code) {
    Struct out{};
    EXPECT_FALSE(told_.empty());
    if (told_.empty()) return out;
    EXPECT_EQ(told_.front().code, code);
    EXPECT_EQ(told_.front().what.size(), sizeof out);
    std::memcpy(&out, told_.front().what.data(), std::min(sizeof out, told_.front().what.size()));
    told_.pop_front();
    return out;
  }

  std::deque<Told> told_;
  Result<void> answer_;
  Result<std::uint32_t> device_ = kDevice;
  int registered_ = -1;
};

class IomapRequests : public DispatcherTest {
 protected:
  IomapRequests() {
    ON_CALL(fs_, mappings).WillByDefault(Return(&mappings_));
    ON_CALL(mappings_, mapping_limits)
        .WillByDefault(Return(ext4::MappingLimits{.uuid = {0xab},
                                                  .largest_file = std::uint64_t{16} << 40,
                                                  .most_links = 65000,
                                                  .earliest_time = -(std::int64_t{1} << 31),
                                                  .latest_time = 15032385535}));
    create({});
  }
  void create(SessionOptions options) {
    options.block_device = kBlockDevice;
    options.sector_size = 512;
    options.name = "sdb1";
    options.kernel = &played_;
    dispatcher_ = *Dispatcher::create(fs_, options);
  }
  bool agrees(std::uint64_t offered, std::uint32_t minor) {
    const auto out = init(offered, minor);
    const std::uint64_t flags = out.flags | std::uint64_t{out.flags2} << 32;
    if ((flags & iomap_abi::kInitIomap) == 0) return false;
    EXPECT_TRUE(out.flags & FUSE_INIT_EXT) << "or the second word is not read";
    EXPECT_EQ(out.minor, iomap_abi::kProtocolMinor) << "or no inode is an iomap one";
    return true;
  }
  iomap_abi::ConfigOut configure() {
    EXPECT_TRUE(agrees(kEverythingAndIomap, 99));
    iomap_abi::ConfigIn in{};
    in.flags = 0x7f;
    in.max_bytes = INT64_MAX;
    send(iomap_abi::kConfig, 0, in);
    return structure_answered<iomap_abi::ConfigOut>();
  }
  void begin(std::uint32_t operation, std::uint64_t position, std::uint64_t count) {
    send(iomap_abi::kBegin, kInode,
         iomap_abi::BeginIn{
             .operation = operation, .reserved = 0, .inode = kInode, .position = position, .count = count});
  }

  ::testing::NiceMock<MockMappings> mappings_;
  PlayedKernel played_;
};

TEST_F(IomapRequests, ItIsAgreedToWhereAllHaveIt) { EXPECT_TRUE(agrees(kEverythingAndIomap, 99)); }

TEST_F(IomapRequests, ItIsNotWhereTheKernelDoesNotOfferIt) {
  EXPECT_FALSE(agrees(kEverythingAndIomap & ~iomap_abi::kInitIomap, 99));
  EXPECT_TRUE(dispatcher_->initialised()) << "no CONFIG comes";
  EXPECT_FALSE(dispatcher_->uses_iomap());
}

TEST_F(IomapRequests, ItIsNotByAnOlderProtocol) { EXPECT_FALSE(agrees(kEverythingAndIomap, 45)); }

TEST_F(IomapRequests, ItIsNotWhereTheEngineAnswersNoMappings) {
  ON_CALL(fs_, mappings).WillByDefault(Return(nullptr));
  EXPECT_FALSE(agrees(kEverythingAndIomap, 99));
}

TEST_F(IomapRequests, ItIsNotWhereTheUserRefusesIt) {
  create({.iomap = SessionOptions::Iomap::kRefused});
  EXPECT_FALSE(agrees(kEverythingAndIomap, 99));
  send(iomap_abi::kBegin, kInode, iomap_abi::BeginIn{});
  EXPECT_EQ(error_answered(), ENOSYS);
}

TEST_F(IomapRequests, ConfigRegistersTheDeviceAndTellsTheVolume) {
  ON_CALL(fs_, block_size).WillByDefault(Return(2048));
  EXPECT_TRUE(agrees(kEverythingAndIomap, 99));
  EXPECT_FALSE(dispatcher_->initialised()) << "CONFIG is still to come";
  iomap_abi::ConfigIn in{};
  in.flags = 0x7f;
  in.max_bytes = std::int64_t{1} << 40;
  send(iomap_abi::kConfig, 0, in);
  const auto out = structure_answered<iomap_abi::ConfigOut>();
  EXPECT_TRUE(dispatcher_->initialised());
  EXPECT_EQ(played_.registered_, kBlockDevice);
  EXPECT_EQ(out.flags, 0x3fU) << "the size of the kernel's own cache is its business";
  EXPECT_STREQ(out.id, "sdb1");
  EXPECT_EQ(out.uuid_length, 16);
  EXPECT_EQ(out.uuid[0], 0xab);
  EXPECT_EQ(out.block_size, 2048U);
  EXPECT_EQ(out.max_links, 65000U);
  EXPECT_EQ(out.time_granularity, 1U);
  EXPECT_EQ(out.time_min, -(std::int64_t{1} << 31));
  EXPECT_EQ(out.time_max, 15032385535);
  EXPECT_EQ(out.max_bytes, 0x7ffffffffffff800) << "places in directories are judged by it";
  EXPECT_EQ(out.padding[0] | out.padding[1] | out.padding[2], 0);
}

TEST_F(IomapRequests, ConfigSetsNothingThatTheKernelDoesNotKnow) {
  EXPECT_TRUE(agrees(kEverythingAndIomap, 99));
  iomap_abi::ConfigIn in{};
  in.flags = iomap_abi::kConfigBlockSize;
  in.max_bytes = INT64_MAX;
  send(iomap_abi::kConfig, 0, in);
  EXPECT_EQ(structure_answered<iomap_abi::ConfigOut>().flags, iomap_abi::kConfigBlockSize);
}

TEST_F(IomapRequests, ADeviceThatIsNotTakenEndsTheMount) {
  played_.device_ = fail(ENODEV);
  EXPECT_TRUE(agrees(kEverythingAndIomap, 99));
  send(iomap_abi::kConfig, 0, iomap_abi::ConfigIn{});
  EXPECT_EQ(error_answered(), ENODEV);
  EXPECT_FALSE(dispatcher_->initialised());
  EXPECT_EQ(dispatcher_->start_failure(), Errno(ENODEV)) << "or the server would wait for another request";
}

TEST_F(IomapRequests, BeginAnswersBothRecords) {
  configure();
  EXPECT_CALL(mappings_, map(kInode, Field(&MappingRequest::purpose, MappingPurpose::kRead)))
      .WillOnce(Return(DataMapping{
          .kind = DataMapping::Kind::kWritten, .offset = 4096, .length = 16384, .device_offset = 1 << 20}));
  begin(0, 5000, 100);
  const auto out = structure_answered<iomap_abi::BeginOut>();
  EXPECT_EQ(out.read.type, iomap_abi::kMapped);
  EXPECT_EQ(out.read.offset, 4096U);
  EXPECT_EQ(out.read.length, 16384U);
  EXPECT_EQ(out.read.address, 1U << 20);
  EXPECT_EQ(out.read.device, kDevice);
  EXPECT_EQ(out.read.flags, 0);
  EXPECT_EQ(out.write.type, iomap_abi::kPureOverwrite);
  EXPECT_EQ(out.write.offset, 4096U);
  EXPECT_EQ(out.write.length, 16384U);
  EXPECT_EQ(out.write.address, iomap_abi::kNullAddress);
  EXPECT_EQ(out.write.device, iomap_abi::kNullDevice);
}

TEST_F(IomapRequests, WhatHasNoBlocksHasNoPlaceOnTheDevice) {
  configure();
  const std::pair<DataMapping::Kind, std::uint16_t> kinds[] = {
      {DataMapping::Kind::kHole, iomap_abi::kHole}, {DataMapping::Kind::kInline, iomap_abi::kInline}};
  for (const auto& [kind, type] : kinds) {
    EXPECT_CALL(mappings_, map)
        .WillOnce(Return(DataMapping{.kind = kind, .offset = 0, .length = 4096, .device_offset = 8192}));
    begin(iomap_abi::kOpReport, 0, 1);
    const auto out = structure_answered<iomap_abi::BeginOut>();
    EXPECT_EQ(out.read.type, type);
    EXPECT_EQ(out.read.address, iomap_abi::kNullAddress);
    EXPECT_EQ(out.read.device, iomap_abi::kNullDevice);
  }
}

TEST_F(IomapRequests, OperationsBecomePurposes) {
  const std::pair<std::uint32_t, MappingPurpose> operations[] = {
      {0, MappingPurpose::kRead},
      {iomap_abi::kOpDirect | iomap_abi::kOpNoWait, MappingPurpose::kRead},
      {iomap_abi::kOpReport, MappingPurpose::kReport},
      {iomap_abi::kOpWrite | iomap_abi::kOpDontCache, MappingPurpose::kBufferedWrite},
      {iomap_abi::kOpWrite | iomap_abi::kOpFault, MappingPurpose::kBufferedWrite},
      {iomap_abi::kOpWrite | iomap_abi::kOpDirect, MappingPurpose::kDirectWrite},
      {iomap_abi::kOpZero, MappingPurpose::kZero},
      {iomap_abi::kOpUnshare | iomap_abi::kOpWrite, MappingPurpose::kUnshare},
      {iomap_abi::kOpWriteback, MappingPurpose::kWriteBack},
      {iomap_abi::kOpSwapFile | iomap_abi::kOpReport, MappingPurpose::kSwap},
  };
  for (const auto& [operation, purpose] : operations) EXPECT_EQ(purpose_of(operation), purpose) << operation;
}

TEST_F(IomapRequests, WhatMayNotWaitOrComeInPiecesIsSaid) {
  iomap_abi::BeginIn in{};
  in.count = 4096;
  in.operation = iomap_abi::kOpWrite | iomap_abi::kOpDirect;
  EXPECT_EQ(mapping_request(in)->allowed, MappingRequest::Allowed::kAll);
  EXPECT_EQ(mapping_request(in)->pieces, MappingRequest::Pieces::kAny);
  in.operation |= iomap_abi::kOpOverwriteOnly | iomap_abi::kOpAtomic;
  EXPECT_EQ(mapping_request(in)->allowed, MappingRequest::Allowed::kWrittenOnly);
  EXPECT_EQ(mapping_request(in)->pieces, MappingRequest::Pieces::kWhole);
  in.operation |= iomap_abi::kOpDax;
  EXPECT_EQ(mapping_request(in).error(), Errno(EOPNOTSUPP));
}

TEST_F(IomapRequests, RangesThatAreNoneAreRefusedAndLargeOnesCut) {
  iomap_abi::BeginIn in{};
  in.position = std::uint64_t{1} << 63;
  EXPECT_EQ(mapping_request(in).error(), Errno(EINVAL));
  in.position = 4096;
  in.count = UINT64_MAX;
  EXPECT_EQ(mapping_request(in)->range.length, static_cast<std::uint64_t>(INT64_MAX) - 4096);
  configure();
  EXPECT_CALL(mappings_, map).Times(0);
  begin(0, std::uint64_t{1} << 63, 1);
  EXPECT_EQ(error_answered(), EINVAL);
}

TEST_F(IomapRequests, FlagsOfAMappingReachTheKernel) {
  EXPECT_EQ(to_wire({.kind = DataMapping::Kind::kUnwritten,
                     .length = 4096,
                     .metadata = DataMapping::Metadata::kPending,
                     .pieces = DataMapping::Pieces::kWhole},
                    1)
                .flags,
            iomap_abi::kDirty | iomap_abi::kAtomicBio);
}

TEST_F(IomapRequests, ARequestThatNamesTwoInodesIsRefused) {
  configure();
  EXPECT_CALL(mappings_, map).Times(0);
  send(iomap_abi::kBegin, kInode + 1,
       iomap_abi::BeginIn{.operation = 0, .reserved = 0, .inode = kInode, .position = 0, .count = 1});
  EXPECT_EQ(error_answered(), ESTALE);
}

TEST_F(IomapRequests, ShortRequestsAreRefused) {
  configure();
  for (const std::uint32_t opcode :
       {iomap_abi::kBegin, iomap_abi::kEnd, iomap_abi::kIoend, iomap_abi::kConfig}) {
    send_bytes(opcode, kInode, "short");
    EXPECT_EQ(error_answered(), EINVAL) << opcode;
  }
}

// The kernel says EUCLEAN to the caller and nothing to us.
TEST_F(IomapRequests, WhatTheKernelWouldRefuseIsNotAnswered) {
  configure();
  const DataMapping wrong[] = {
      {.offset = 0, .length = 0},
      {.offset = 0, .length = 4095},
      {.offset = 512, .length = 8192},
      {.offset = 8192, .length = 4096},
      {.offset = 0, .length = 4096},
      {.kind = DataMapping::Kind::kWritten, .offset = 4096, .length = 4096, .device_offset = 100},
      {.kind = DataMapping::Kind::kWritten,
       .offset = 4096,
       .length = 4096,
       .device_offset = UINT64_MAX - 4095},
      {.offset = 4096, .length = UINT64_MAX & ~std::uint64_t{4095}},
  };
  for (const DataMapping& mapping : wrong) {
    EXPECT_CALL(mappings_, map).WillOnce(Return(mapping));
    begin(0, 4096, 1);
    EXPECT_EQ(error_answered(), EUCLEAN) << mapping.offset << " " << mapping.length;
  }
}

TEST_F(IomapRequests, AnErrorIsAnswered) {
  configure();
  EXPECT_CALL(mappings_, map).WillOnce(Return(fail(ENOSPC)));
  begin(iomap_abi::kOpWrite, 0, 1);
  EXPECT_EQ(error_answered(), ENOSPC);
}

// ENOSYS to one END or IOEND, and the kernel never sends another.
TEST_F(IomapRequests, NothingIsSwitchedOffForEver) {
  configure();
  EXPECT_CALL(mappings_, map).WillOnce(Return(fail(ENOSYS)));
  EXPECT_CALL(mappings_, finish).WillOnce(Return(fail(ENOSYS)));
  EXPECT_CALL(mappings_, complete_write).WillOnce(Return(fail(ENOSYS)));
  begin(0, 0, 1);
  EXPECT_EQ(error_answered(), EOPNOTSUPP);
  iomap_abi::EndIn end{};
  end.inode = kInode;
  send(iomap_abi::kEnd, kInode, end);
  EXPECT_EQ(error_answered(), EOPNOTSUPP);
  iomap_abi::IoendIn ioend{};
  ioend.inode = kInode;
  send(iomap_abi::kIoend, kInode, ioend);
  EXPECT_EQ(error_answered(), EOPNOTSUPP);
}

TEST_F(IomapRequests, EndSaysWhatWasDone) {
  iomap_abi::EndIn in{};
  in.operation = iomap_abi::kOpWrite;
  in.inode = kInode;
  in.position = 8192;
  in.count = 4096;
  in.written = 1000;
  in.mapping.flags = iomap_abi::kSizeChanged;
  const auto finished = finished_operation(in);
  EXPECT_EQ(finished.purpose, MappingPurpose::kBufferedWrite);
  EXPECT_EQ(finished.range.offset, 8192U);
  EXPECT_EQ(finished.range.length, 4096U);
  EXPECT_EQ(finished.done, 1000U);
  EXPECT_EQ(finished.end_of_file, ext4::FinishedOperation::EndOfFile::kMoved);
  in.written = -5;
  in.mapping.flags = 0;
  EXPECT_EQ(finished_operation(in).done, 0U) << "an error";
  EXPECT_EQ(finished_operation(in).end_of_file, ext4::FinishedOperation::EndOfFile::kKept);
  in.written = 5000;
  EXPECT_EQ(finished_operation(in).done, 4096U) << "never more than was asked for";
  configure();
  EXPECT_CALL(mappings_, finish(kInode, _)).WillOnce(Return(Result<void>()));
  send(iomap_abi::kEnd, kInode, in);
  EXPECT_EQ(error_answered(), 0);
}

TEST_F(IomapRequests, IoendAnswersTheSizeOnTheDisk) {
  configure();
  ext4::CompletedWrite seen;
  EXPECT_CALL(mappings_, complete_write(kInode, _)).WillOnce([&](auto, const ext4::CompletedWrite& write) {
    seen = write;
    return Result<std::uint64_t>(5000);
  });
  iomap_abi::IoendIn in{};
  in.flags = iomap_abi::kIoendUnwritten | iomap_abi::kIoendAppend | iomap_abi::kIoendDirect;
  in.inode = kInode;
  in.position = 4096;
  in.written = 904;
  send(iomap_abi::kIoend, kInode, in);
  EXPECT_EQ(structure_answered<iomap_abi::IoendOut>().new_size, 5000U);
  EXPECT_EQ(seen.kind, ext4::CompletedWrite::Kind::kWrite);
  EXPECT_EQ(seen.range.offset, 4096U);
  EXPECT_EQ(seen.range.length, 904U);
  EXPECT_EQ(seen.extents, ext4::CompletedWrite::Extents::kUnwritten);
  EXPECT_EQ(seen.way, ext4::CompletedWrite::Way::kDirect);
  EXPECT_FALSE(seen.error);
}

TEST_F(IomapRequests, IoendKnowsErrorsAndSwapOff) {
  iomap_abi::IoendIn in{};
  in.error = -EIO;
  EXPECT_EQ(completed_write(in)->error, Errno(EIO));
  in.error = 12345;  // no errno
  EXPECT_EQ(completed_write(in)->error, Errno(EIO));
  in = {};
  in.flags = iomap_abi::kIoendSwapOff;
  EXPECT_EQ(completed_write(in)->kind, ext4::CompletedWrite::Kind::kSwapOff);
}

TEST_F(IomapRequests, TheVolumeIsFrozenThawedAndShutDown) {
  configure();
  EXPECT_CALL(fs_, freeze).WillOnce(Return(Result<void>()));
  send(iomap_abi::kFreeze, FUSE_ROOT_ID, iomap_abi::FreezeIn{});
  EXPECT_EQ(error_answered(), 0);
  EXPECT_CALL(fs_, thaw).WillOnce(Return(Result<void>()));
  send_bytes(iomap_abi::kUnfreeze, FUSE_ROOT_ID, "");
  EXPECT_EQ(error_answered(), 0);
  EXPECT_CALL(fs_, shut_down(ext4::ShutdownMode::kAtOnce)).WillOnce(Return(Result<void>()));
  send(iomap_abi::kShutdown, FUSE_ROOT_ID, iomap_abi::ShutdownIn{});
  EXPECT_EQ(error_answered(), 0);
}

TEST_F(IomapRequests, AttributesSayWhatTheKernelKeepsItself) {
  configure();
  const auto flags_of = [&](mode_t mode, std::uint32_t flags) {
    EXPECT_CALL(fs_, lookup)
        .WillOnce(Return(ext4::Attributes{.inode = kInode, .mode = mode, .flags = flags}));
    send_bytes(FUSE_LOOKUP, FUSE_ROOT_ID, std::string("x\0", 2));
    const auto entry = structure_answered<fuse_entry_out>();
    EXPECT_NE(entry.attr_valid, 0U);
    EXPECT_NE(entry.entry_valid, 0U);
    return entry.attr.flags;
  };
  EXPECT_EQ(flags_of(S_IFREG | 0644, 0), iomap_abi::kExclusive | iomap_abi::kIomap);
  EXPECT_EQ(flags_of(S_IFDIR | 0755, FS_SYNC_FL), 0U);
  EXPECT_EQ(flags_of(S_IFLNK | 0777, 0), 0U);
  EXPECT_EQ(flags_of(S_IFREG | 0644, FS_SYNC_FL | FS_IMMUTABLE_FL | FS_APPEND_FL | FS_NODUMP_FL),
            iomap_abi::kExclusive | iomap_abi::kIomap | iomap_abi::kSync | iomap_abi::kImmutable |
                iomap_abi::kAppend);
}

TEST_F(IomapRequests, WithoutItAttributesHaveNoFlags) {
  init(kEverything);
  EXPECT_CALL(fs_, attributes)
      .WillOnce(Return(ext4::Attributes{.inode = kInode, .mode = S_IFREG, .flags = FS_IMMUTABLE_FL}));
  send(FUSE_GETATTR, kInode, fuse_getattr_in{});
  EXPECT_EQ(structure_answered<fuse_attr_out>().attr.flags, 0U);
}

TEST_F(IomapRequests, StatxTellsOfDirectIo) {
  configure();
  EXPECT_CALL(fs_, attributes)
      .WillRepeatedly(Return(ext4::Attributes{.inode = kInode, .mode = S_IFREG, .flags = FS_APPEND_FL}));
  send(kStatx, kInode, StatxRequest{});
  const auto out = structure_answered<StatxReply>();
  EXPECT_NE(out.mask & kStatxDioAlign, 0U);
  EXPECT_EQ(out.dio_mem_align, 512U);
  EXPECT_EQ(out.dio_offset_align, 512U);
  EXPECT_EQ(out.attributes, static_cast<std::uint64_t>(STATX_ATTR_APPEND));
  EXPECT_NE(out.attributes_mask & STATX_ATTR_IMMUTABLE, 0U);
}

class AtomicWrites : public IomapRequests {
 protected:
  struct Told {
    std::uint32_t entry_flags = 0;
    StatxReply statx{};
  };
  // Of such an inode.
  Told told(mode_t mode, std::uint32_t flags) {
    const ext4::Attributes attributes{.inode = kInode, .mode = mode, .flags = flags};
    EXPECT_CALL(fs_, lookup).WillOnce(Return(attributes));
    EXPECT_CALL(fs_, attributes).WillRepeatedly(Return(attributes));
    send_bytes(FUSE_LOOKUP, FUSE_ROOT_ID, std::string("x\0", 2));
    const auto entry = structure_answered<fuse_entry_out>();
    send(kStatx, kInode, StatxRequest{});
    return {.entry_flags = entry.attr.flags, .statx = structure_answered<StatxReply>()};
  }
  static constexpr std::uint32_t kAtomicWrite =
      iomap_abi::kOpWrite | iomap_abi::kOpDirect | iomap_abi::kOpAtomic;
};

TEST_F(AtomicWrites, AreOfFilesThatHaveExtentsOrMayGetThem) {
  create({.atomic_write_unit = 4096});
  configure();
  for (const std::uint32_t flags : {FS_EXTENT_FL, FS_INLINE_DATA_FL}) {
    const auto [entry_flags, statx] = told(S_IFREG | 0644, flags);
    EXPECT_EQ(entry_flags, iomap_abi::kExclusive | iomap_abi::kIomap | iomap_abi::kAtomic);
    EXPECT_NE(statx.mask & kStatxWriteAtomic, 0U);
    EXPECT_EQ(statx.atomic_write_unit_min, 4096U);
    EXPECT_EQ(statx.atomic_write_unit_max, 4096U);
    EXPECT_EQ(statx.atomic_write_segments_max, 1U);
    EXPECT_EQ(statx.atomic_write_unit_max_opt, 0U);
    EXPECT_NE(statx.attributes & statx.attributes_mask & kStatxAttributeWriteAtomic, 0U);
  }
  const auto [without_extents, none] = told(S_IFREG | 0644, 0);
  EXPECT_EQ(without_extents, iomap_abi::kExclusive | iomap_abi::kIomap);
  EXPECT_NE(none.mask & kStatxWriteAtomic, 0U) << "it is known that there are none";
  EXPECT_EQ(none.atomic_write_unit_max, 0U);
  EXPECT_EQ(none.atomic_write_segments_max, 0U);
  EXPECT_EQ(none.attributes & kStatxAttributeWriteAtomic, 0U);
  const auto directory = told(S_IFDIR | 0755, FS_EXTENT_FL);
  EXPECT_EQ(directory.entry_flags, 0U);
  EXPECT_EQ(directory.statx.mask & kStatxWriteAtomic, 0U);
  EXPECT_EQ(directory.statx.atomic_write_unit_max, 0U);
}

TEST_F(AtomicWrites, AreNotWhereTheDeviceCannot) {
  configure();
  const auto [entry_flags, statx] = told(S_IFREG | 0644, FS_EXTENT_FL);
  EXPECT_EQ(entry_flags & iomap_abi::kAtomic, 0U);
  EXPECT_EQ(statx.atomic_write_unit_max, 0U);
  EXPECT_EQ(statx.attributes & kStatxAttributeWriteAtomic, 0U);
  EXPECT_CALL(mappings_, map).Times(0);
  begin(kAtomicWrite, 0, 4096);
  EXPECT_EQ(error_answered(), EOPNOTSUPP);
}

TEST_F(AtomicWrites, AreNotWhereTheServerMovesTheData) {
  create({.iomap = SessionOptions::Iomap::kRefused, .atomic_write_unit = 4096});
  init(kEverythingAndIomap, 99);
  const auto [entry_flags, statx] = told(S_IFREG | 0644, FS_EXTENT_FL);
  EXPECT_EQ(entry_flags, 0U);
  EXPECT_EQ(statx.mask & kStatxWriteAtomic, 0U);
  EXPECT_EQ(statx.atomic_write_unit_max, 0U);
}

TEST_F(AtomicWrites, TheAnswerPromisesIt) {
  create({.atomic_write_unit = 4096});
  configure();
  EXPECT_CALL(mappings_, map(kInode, Field(&MappingRequest::pieces, MappingRequest::Pieces::kWhole)))
      .WillOnce(Return(DataMapping{.kind = DataMapping::Kind::kUnwritten,
                                   .offset = 8192,
                                   .length = 4096,
                                   .device_offset = 1 << 20,
                                   .pieces = DataMapping::Pieces::kWhole}));
  begin(kAtomicWrite, 8192, 4096);
  const auto out = structure_answered<iomap_abi::BeginOut>();
  EXPECT_EQ(out.read.type, iomap_abi::kUnwritten);
  EXPECT_EQ(out.read.flags, iomap_abi::kAtomicBio);
  EXPECT_EQ(out.write.type, iomap_abi::kPureOverwrite) << "or the flag of the read record does not count";
}

TEST_F(IomapRequests, TimesAreTheKernelsAndNotJudged) {
  configure();
  ext4::AttributeChanges seen;
  EXPECT_CALL(fs_, set_attributes).WillRepeatedly([&](auto, const ext4::AttributeChanges& changes) {
    seen = changes;
    return Result<ext4::Attributes>(ext4::Attributes{.inode = kInode, .mode = S_IFREG});
  });
  fuse_setattr_in in{};
  in.valid = FATTR_ATIME | FATTR_ATIME_NOW | FATTR_MTIME | FATTR_CTIME;
  in.atime = 1000;
  in.mtime = 2000;
  send(FUSE_SETATTR, kInode, in);
  EXPECT_EQ(error_answered(), 0);
  EXPECT_EQ(seen.times, ext4::AttributeChanges::Times::kWrittenBack);
  ASSERT_TRUE(seen.accessed && seen.modified);
  EXPECT_EQ(seen.accessed->seconds, 1000) << "the kernel's now, by its own clock";
  EXPECT_EQ(seen.modified->seconds, 2000);
  // Of what is no file.
  in.valid = FATTR_ATIME | FATTR_ATIME_NOW | FATTR_MTIME | FATTR_MTIME_NOW;
  send(FUSE_SETATTR, kInode, in);
  EXPECT_EQ(error_answered(), 0);
  EXPECT_EQ(seen.times, ext4::AttributeChanges::Times::kNow);
  EXPECT_GT(seen.accessed->seconds, 1000);
}

TEST_F(IomapRequests, TheKernelForgetsTheAclThatAModeHasChanged) {
  configure();
  EXPECT_CALL(fs_, set_attributes)
      .WillRepeatedly(Return(ext4::Attributes{.inode = kInode, .mode = S_IFREG | 0640}));
  fuse_setattr_in in{};
  in.valid = FATTR_MODE | FATTR_CTIME;
  in.mode = S_IFREG | 0640;
  EXPECT_CALL(fs_, xattr(kInode, std::string_view("system.posix_acl_access")))
      .WillOnce(Return(fail(ENODATA)))
      .WillOnce(Return(std::vector<std::byte>(28)));
  send(FUSE_SETATTR, kInode, in);
  EXPECT_EQ(error_answered(), 0);
  send(FUSE_SETATTR, kInode, in);
  struct {
    fuse_out_header header;
    fuse_notify_inval_inode_out out;
  } told{};
  ASSERT_EQ(::recv(kernel_.get(), &told, sizeof told, 0), static_cast<ssize_t>(sizeof told));
  EXPECT_EQ(told.header.error, FUSE_NOTIFY_INVAL_INODE);
  EXPECT_EQ(told.out.ino, kInode);
  EXPECT_LT(told.out.off, 0) << "no pages";
  EXPECT_EQ(error_answered(), 0);
}

TEST_F(IomapRequests, InlineDataIsNeverMoreThanABlock) {
  configure();
  const std::size_t block = fs_.block_size();
  std::size_t asked = 0;
  EXPECT_CALL(fs_, read).WillRepeatedly([&](auto, auto, std::span<std::byte> into, auto) {
    asked = into.size();
    return Result<std::size_t>(into.size());
  });
  fuse_read_in in{};
  in.size = 128 << 10;
  in.offset = 100;
  send(FUSE_READ, kInode, in);
  EXPECT_EQ(error_answered(), 0);
  EXPECT_EQ(asked, block - 100);
  in.offset = block + 1;
  send(FUSE_READ, kInode, in);
  EXPECT_EQ(error_answered(), 0);
  EXPECT_EQ(asked, 0U);
}

TEST_F(IomapRequests, InlineDataSetsNoAccessTime) {
  configure();
  EXPECT_CALL(fs_, read(kInode, _, _, ext4::AccessTime::kKeep)).WillOnce(Return(Result<std::size_t>(0)));
  fuse_read_in in{};
  in.size = 4096;
  send(FUSE_READ, kInode, in);
  EXPECT_EQ(error_answered(), 0);
}

TEST_F(IomapRequests, TheKernelCopiesByItself) {
  configure();
  EXPECT_CALL(fs_, copy_range).Times(0);
  fuse_copy_file_range_in in{};
  in.nodeid_out = 13;
  in.len = 4096;
  send(kCopyFileRange64, kInode, in);
  EXPECT_EQ(error_answered(), ENOSYS);
}

TEST_F(IomapRequests, TheyAreCountedByName) {
  configure();
  EXPECT_CALL(mappings_, map).WillOnce(Return(fail(EIO)));
  begin(0, 0, 1);
  EXPECT_EQ(dispatcher_->counters().text(), "INIT 1, IOMAP_CONFIG 1, IOMAP_BEGIN 1");
}

class WhatTheKernelKeeps : public IomapRequests {
 protected:
  WhatTheKernelKeeps() { configure(); }
  ext4::MappingCache& cache() { return *mappings_.cache_; }
};

TEST_F(WhatTheKernelKeeps, AMappingIsHandedOver) {
  cache().remember(
      kInode,
      {.kind = DataMapping::Kind::kUnwritten, .offset = 4096, .length = 8192, .device_offset = 1 << 20});
  const auto told = played_.told<iomap_abi::UpsertMappingsOut>(iomap_abi::kUpsertMappings);
  EXPECT_EQ(told.node, kInode);
  EXPECT_EQ(told.inode, kInode);
  EXPECT_EQ(told.read.type, iomap_abi::kUnwritten);
  EXPECT_EQ(told.read.device, kDevice);
  EXPECT_EQ(told.read.address, 1U << 20);
  EXPECT_EQ(told.write.type, iomap_abi::kPureOverwrite);
  EXPECT_EQ(told.write.offset, 4096U);
}

TEST_F(WhatTheKernelKeeps, ARefusedMappingIsNoFailure) {
  for (const int error : {ESTALE, ENOMEM, EINVAL, EUCLEAN}) {
    played_.answer_ = fail(error);
    cache().remember(kInode, {.kind = DataMapping::Kind::kHole, .offset = 0, .length = 4096});
  }
  EXPECT_EQ(played_.told_.size(), 4U);
}

TEST_F(WhatTheKernelKeeps, APartIsForgotten) {
  EXPECT_TRUE(cache().forget(kInode, {.offset = 4096, .length = 8192}));
  const auto told = played_.told<iomap_abi::InvalidateMappingsOut>(iomap_abi::kInvalidateMappings);
  EXPECT_EQ(told.node, kInode);
  EXPECT_EQ(told.read.offset, 4096U);
  EXPECT_EQ(told.read.length, 8192U);
  EXPECT_EQ(told.write.length, 0U);
  EXPECT_TRUE(played_.told_.empty());
}

// All at once, and kernels of v7 do not notice.
TEST_F(WhatTheKernelKeeps, EverythingIsForgottenInTwoParts) {
  EXPECT_TRUE(cache().forget(kInode, {.offset = 0, .length = ext4::MappingCache::kToEnd}));
  const auto first = played_.told<iomap_abi::InvalidateMappingsOut>(iomap_abi::kInvalidateMappings);
  EXPECT_EQ(first.read.offset, 0U);
  EXPECT_EQ(first.read.length, 4096U);
  const auto second = played_.told<iomap_abi::InvalidateMappingsOut>(iomap_abi::kInvalidateMappings);
  EXPECT_EQ(second.read.offset, 4096U);
  EXPECT_EQ(second.read.length, iomap_abi::kToEndOfFile);
}

TEST_F(WhatTheKernelKeeps, WhatItWillNotForgetIsAnErrorUnlessItNeverKnewTheInode) {
  played_.answer_ = fail(ESTALE);
  EXPECT_TRUE(cache().forget(kInode, {.offset = 0, .length = 4096}));
  played_.answer_ = fail(EIO);
  EXPECT_EQ(cache().forget(kInode, {.offset = 0, .length = 4096}).error(), Errno(EIO));
}

TEST_F(WhatTheKernelKeeps, PagesOfTheDeviceAreForgotten) {
  EXPECT_TRUE(cache().forget_device({.offset = 8192, .length = 4096}));
  const auto told = played_.told<iomap_abi::DeviceInvalidateOut>(iomap_abi::kDeviceInvalidate);
  EXPECT_EQ(told.device, kDevice);
  EXPECT_EQ(told.range.offset, 8192U);
  EXPECT_EQ(told.range.length, 4096U);
  played_.answer_ = fail(ENODEV);
  EXPECT_EQ(cache().forget_device({.offset = 8192, .length = 4096}).error(), Errno(ENODEV));
}

}  // namespace
}  // namespace fuse4fs::fuse
